package tablefile

import (
	"fmt"
	"strings"
	"testing"
)

func TestParsePasswd(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"usual", "Gilles:$2b$08$x:1000:1001:Gilles:/home/gilles:/sbin/nologin\n", "gilles=$2b$08$x:1000:1001:/home/gilles"},
		{"no shell", "a:*:1:2::/h\n", "a=*:1:2:/h"},
		{"more fields", "a:*:1:2::/h:/bin/sh:userdb_mail=x:y\n", "a=*:1:2:/h"},
		{"password alone", "a@b.example:x::::\n", "a@b.example=x:"},
		{"no home", "a:x:1:2::\n", "a=x:"},
		{"no number", "a:x:root:2::/h\n", "a=x:"},
		{"sign", "a:x:+1:2::/h\n", "a=x:"},
		{"comments", "# all\n\na:x:1:2::/h # his\n", "a=x:1:2:/h "},
		{"the last one counts", "a:x:1:2::/h\nA:y:1:2::/h\n", "a=y:1:2:/h"},
		{"CRLF", "a:x:1:2::/h\r\n", "a=x:1:2:/h"},
		{"few fields", "a:x:1:2::/h\nb:x:1:2:\n", "file:2: an account is name:password:uid:gid:comment:home"},
		{"no name", ":x:1:2::/h\n", "file:1: an account without a name"},
		{"NUL", "a:x\x00:1:2::/h\n", "file:1: it holds a NUL byte"},
	} {
		entries, err := ParsePasswd("file", c.text)
		var got []string
		for _, e := range entries {
			got = append(got, e.Key+"="+e.Value)
		}
		text := strings.Join(got, "|")
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s: %s; want %s", c.name, text, c.want)
		}
	}
	if password, info := Account("x:1:2:/h"); fmt.Sprint(password, " ", info) != "x 1:2:/h" {
		t.Errorf("%q, %q", password, info)
	}
}
