package ctl

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"smtpd/compile/tablefile/cdb"
)

// runIn runs a program in a directory of its own that has files, and returns
// its status and what it printed: "out" and "err".
func runIn(t *testing.T, files map[string]string, stdin, name string, args ...string) (status int, out, errs string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var o, e bytes.Buffer
	status = run(&terminal{in: strings.NewReader(stdin), out: &o, err: &e, spool: "spool"}, name, args)
	return status, o.String(), e.String()
}

// dump returns what makemap -U shows of a database.
func dump(t *testing.T, path string) string {
	t.Helper()
	var o, e bytes.Buffer
	if status := run(&terminal{out: &o, err: &e}, "makemap", []string{"-U", path}); status != exitOK {
		t.Errorf("makemap -U %s: status %d, %s", path, status, e.String())
	}
	return o.String()
}

// TestMakemap has what the original does with the same arguments: messages,
// statuses and entries. Its own reasons are behind "invalid entry".
func TestMakemap(t *testing.T) {
	long := strings.Repeat("k", 1024)
	tests := []struct {
		text, args string
		target     string // "" for none
		want       string // what -U shows
		err        string // how messages begin
	}{
		{"Foo: bar baz\n\n# comment\n  a\tx # y\n", "in", "in.db", "a\tx # y\nfoo\tbar baz\n", ""},
		{"[2001:DB8::1] x\n", "in", "in.db", "[2001:db8::1]\tx\n", ""},
		{"a b", "-o out in", "out", "a\tb\n", ""},
		{"a b", "-oout -dbtree in", "out", "a\tb\n", ""},
		{"a b", "-d cdb in", "in.db", "a\tb\n", ""},
		{"b\nA a\n", "-t set in", "in.db", "a a\t<set>\nb\t<set>\n", ""},
		{"a: b, |\"c d\", :include:/e\nb: error:550 no\n", "-t aliases in", "in.db", "a\tb, |\"c d\", :include:/e\nb\terror:550 no\n", ""},
		{"", "in", "in.db", "", "makemap: warning: empty map created: in.db\n"},
		{"foo\n", "in", "", "", "makemap: in:1: invalid entry: "},
		{"a: b\nfoo:\n", "in", "", "", "makemap: in:2: invalid entry: "},
		{"[::1 b\n", "in", "", "", "makemap: in:1: invalid entry: "},
		{long + " b\n", "in", "", "", "makemap: in:1: invalid entry: key of more than 1023 bytes\n"},
		{"a: \"b\n", "-t aliases in", "", "", "makemap: in:1: invalid entry: "},
		{"a: ,\n", "-t aliases in", "", "", "makemap: in:1: invalid entry: there is nothing in the list\n"},
		{"a: b\n\nA c\n", "in", "", "", "makemap: in:3: duplicate entry for a\n"},
		{"a\nA\n", "-t set in", "", "", "makemap: in:2: duplicate entry for a\n"},
		{"a b", "-d dbm in", "", "", "makemap: unsupported DB type 'dbm'\n"},
		{"a b", "-t virtual in", "", "", "makemap: unsupported type 'virtual'\n"},
		{"a b", "none", "", "", "makemap: open none: no such file or directory\n"},
		{"a b", "-o none/out in", "", "", "makemap: open "},
		{"a b", "", "", "", makemapUsage},
		{"a b", "-x in", "", "", makemapUsage},
		{"a b", "hash in in", "", "", makemapUsage},
		{"a b", "-U in", "", "", "makemap: in: no database that makemap writes"},
		{"a b", "-U none", "", "", "makemap: open none: no such file or directory\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			status, out, errs := runIn(t, map[string]string{"in": tt.text}, "", "makemap", strings.Fields(tt.args)...)
			if !strings.HasPrefix(errs, tt.err) || tt.err == "" && errs != "" || out != "" {
				t.Errorf("printed %q, %q; want %q", out, errs, tt.err)
			}
			if (status == exitOK) != (tt.target != "") {
				t.Errorf("status %d", status)
			}
			if tt.target == "" {
				if left, _ := filepath.Glob("*"); len(left) != 1 {
					t.Errorf("left behind: %q", left)
				}
			} else if got := dump(t, tt.target); got != tt.want {
				t.Errorf("holds %q, want %q", got, tt.want)
			}
		})
	}
}

// TestMakemapInput reads standard input, in both styles.
func TestMakemapInput(t *testing.T) {
	for args, target := range map[string]string{"-o out -": "out", "hash map": "map.db", "btree map": "map.db", "-": "-.db"} {
		status, _, errs := runIn(t, nil, "a b\n", "makemap", strings.Fields(args)...)
		if got := dump(t, "./"+target); status != exitOK || errs != "" || got != "a\tb\n" {
			t.Errorf("%s: status %d, %q, holds %q", args, status, errs, got)
		}
		if info, err := os.Stat(target); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", args, info.Mode(), err)
		}
	}
	if status, _, errs := runIn(t, nil, "a\n", "makemap", "-o", "out", "-"); status == exitOK || !strings.HasPrefix(errs, "makemap: -:1: invalid entry") {
		t.Errorf("status %d, %q", status, errs)
	}
}

// TestMakemapReplaces has a database take the place of an older one: who has
// that open goes on reading it, and the new one has the mode and the owner of
// the text.
func TestMakemapReplaces(t *testing.T) {
	runIn(t, map[string]string{"in": "a b\n", "in.db": "old"}, "", "makemap", "-U", "none")
	old, err := os.Open("in.db")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	owner := os.Getuid()
	if owner == 0 {
		owner = 12345
	}
	if err := os.Chown("in", owner, -1); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("in", 0o640); err != nil {
		t.Fatal(err)
	}
	if status := run(&terminal{}, "makemap", []string{"in"}); status != exitOK {
		t.Fatal(status)
	}
	info, err := os.Stat("in.db")
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o640 || int(info.Sys().(*syscall.Stat_t).Uid) != owner {
		t.Errorf("mode %v, owner %d; want that of the text", info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	}
	var b [10]byte
	if n, _ := old.Read(b[:]); string(b[:n]) != "old" {
		t.Errorf("the old file now has %q", b[:n])
	}
	data, err := os.ReadFile("in.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cdb.Open(data); err != nil {
		t.Error(err)
	}
}

func TestNewaliases(t *testing.T) {
	dir := t.TempDir()
	aliases := filepath.Join(dir, "aliases")
	if err := os.WriteFile(aliases, []byte("root: alice\nabuse: root, bob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rest := "\nlisten on lo\naction a mbox alias <aliases>\nmatch for local action a\n"
	for _, spec := range []string{"db:" + aliases + ".db", "file:" + aliases, strconv.Quote(aliases)} {
		os.Remove(aliases + ".db")
		status, out, errs := runIn(t, map[string]string{"conf": "table aliases " + spec + rest}, "", "newaliases", "-f", "conf")
		if want := fmt.Sprintf("%s: 2 aliases\n", aliases); status != exitOK || out != want || errs != "" {
			t.Errorf("%s: status %d, %q, %q; want %q", spec, status, out, errs, want)
		}
		if got := dump(t, aliases+".db"); got != "abuse\troot, bob\nroot\talice\n" {
			t.Errorf("%s: holds %q", spec, got)
		}
	}
	for conf, want := range map[string]string{
		"table aliases { root = alice }" + rest:  "table aliases is part of the configuration",
		"table aliases sqlite:/etc/x.conf\n":     "table aliases is sqlite:/etc/x.conf: there is no file",
		"table aliases db:/nonexistent/a.db\n":   "newaliases: open /nonexistent/a: no such file",
		"table aliases db:" + aliases + "\nnope": "conf:2",
	} {
		status, _, errs := runIn(t, map[string]string{"conf": conf}, "", "newaliases", "-f", "conf")
		if status != exitFailed || !strings.Contains(errs, want) {
			t.Errorf("%q: status %d, %q; want %q", conf, status, errs, want)
		}
	}
	if err := os.WriteFile(aliases, []byte("root: alice\nabuse: \"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, errs := runIn(t, map[string]string{"conf": "table aliases file:" + aliases + rest}, "", "newaliases", "-f", "conf")
	if want := "newaliases: " + aliases + ":2: invalid entry: "; status != exitFailed || !strings.HasPrefix(errs, want) {
		t.Errorf("a bad line: status %d, %q", status, errs)
	}
	if got := dump(t, aliases+".db"); got != "abuse\troot, bob\nroot\talice\n" {
		t.Errorf("after a bad line: holds %q", got)
	}
	if status, _, errs := runIn(t, nil, "", "newaliases", "extra"); status != exitFailed || errs != newaliasesUsage {
		t.Errorf("status %d, %q", status, errs)
	}
}

// TestSendmailAliases reads -bi under any of the names that sendmail has, and
// no other -b.
func TestSendmailAliases(t *testing.T) {
	for args, want := range map[string]bool{"-bi": true, "-b i": true, "-bm you": false, "-bs": false} {
		if s, err := parseSendmail(strings.Fields(args)); err != nil || s.aliases != want {
			t.Errorf("%s: %v, %v", args, s.aliases, err)
		}
	}
}
