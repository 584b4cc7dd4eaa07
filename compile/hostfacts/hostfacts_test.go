package hostfacts

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"smtpd/compile"
)

const facts = `
# the mail host
name mail.example.org
interface em0 192.0.2.1 2001:db8::1
interface tun0 ::ffff:10.0.0.1
group egress em0 tun0
address 192.0.2.7
host MX.example.org 192.0.2.1
service mailgate 2525
file /etc/mail/aliases
file /etc/mail/domains domains
file /etc/mail/shared /abs/shared
helper ldap
`

// TestFiles checks what is said of files besides their names.
func TestFiles(t *testing.T) {
	for _, tt := range []struct {
		fact  string
		mode  uint32
		uid   int
		known bool
		err   string
	}{
		{"file /f", 0o600, 0, false, ""},
		{"file /f domains", 0o600, 0, true, ""},
		{"file /f mode 644", 0o644, 0, false, ""},
		{"file /f mode 0644 domains", 0o644, 0, true, ""},
		{"file /f owner 7 mode 4755", 0o755, 7, false, ""},
		{"file /f mode 0640 owner root domains", 0o640, 0, true, ""},
		{"file /f mode domains", 0, 0, false, `"domains" is no mode`},
		{"file /f mode 9", 0, 0, false, `"9" is no mode`},
		{"file /f owner nobody", 0, 0, false, `owner "nobody" is no user id`},
		{"file /f group 7", 0, 0, false, `unknown word "group"`},
		{"file /f mode 0600 owner 0 domains more", 0, 0, false, "7 words"},
	} {
		h, err := Parse("hosts/mail", tt.fact, read)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want an error with %q", tt.fact, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.fact, err)
			continue
		}
		f, err := h.ReadFile("/f")
		if f.Mode != tt.mode || f.UID != tt.uid || (err == nil) != tt.known || (string(f.Data) != "") != tt.known {
			t.Errorf("%s: mode %04o, uid %d, %v", tt.fact, f.Mode, f.UID, err)
		}
	}
}

func read(path string) ([]byte, error) {
	switch path {
	case "hosts/domains", "/abs/shared":
		return []byte("in " + path), nil
	}
	return nil, fs.ErrNotExist
}

func TestParse(t *testing.T) {
	h, err := Parse("hosts/mail", facts, read)
	if err != nil {
		t.Fatal(err)
	}
	em0, _ := h.Interface("em0")
	egress, _ := h.Interface("egress")
	lo, _ := h.Interface("lo")
	_, em1 := h.Interface("em1")
	mx, _ := h.Resolve("mx.example.org")
	_, missing := h.Resolve("other.example.org")
	gate, _ := h.Service("mailgate")
	smtp, _ := h.Service("smtp")
	domains, _ := h.ReadFile("/etc/mail/domains")
	shared, _ := h.ReadFile("/etc/mail/shared")
	_, aliases := h.ReadFile("/etc/mail/aliases")
	_, gone := h.ReadFile("/etc/mail/gone")
	got := fmt.Sprintln(h.ServerName(), h.Addrs()) +
		fmt.Sprintln(em0, egress, lo, em1, mx, gate, smtp, h.Helper("ldap"), h.Helper("sql")) +
		fmt.Sprintln(string(domains.Data), string(shared.Data), domains.UID, errors.Is(aliases, compile.ErrContent),
			errors.Is(gone, fs.ErrNotExist), errors.Is(missing, fs.ErrNotExist))
	want := `mail.example.org [127.0.0.1 ::1 192.0.2.1 2001:db8::1 10.0.0.1 192.0.2.7]
[192.0.2.1 2001:db8::1] [192.0.2.1 2001:db8::1 10.0.0.1] [127.0.0.1 ::1] false [192.0.2.1] 2525 25 true false
in hosts/domains in /abs/shared 0 true true true
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"nam x":                `f:1: unknown fact "nam"`,
		"\nname":               "f:2: name: 0 words are too few or too many",
		"name a b":             "f:1: name: 2 words",
		"interface":            "f:1: interface: 0 words",
		"interface em0 x":      `f:1: "x" is no address`,
		"group g em9":          "f:1: group g: no interface em9 above",
		"service a 70000":      `f:1: service a: "70000" is no port`,
		"service a 0":          `f:1: service a: "0" is no port`,
		"file /a gone":         "f:1: file /a: file does not exist",
		"address 10.0.0.0/8":   `f:1: "10.0.0.0/8" is no address`,
		"host mx 192.0.2.1:25": `f:1: "192.0.2.1:25" is no address`,
	} {
		_, err := Parse("f", text, read)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestUnnamed(t *testing.T) {
	h := Unnamed()
	_, file := h.ReadFile("/etc/mail/aliases")
	_, name := h.Resolve("mx.example.org")
	if !errors.Is(file, compile.ErrUnknown) || !errors.Is(name, compile.ErrUnknown) {
		t.Errorf("%v, %v: not the answer of a host that cannot say", file, name)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(facts)
	f.Fuzz(func(t *testing.T, text string) {
		h, err := Parse("f", text, read)
		if (h == nil) != (err != nil) {
			t.Fatalf("host %v and error %v", h, err)
		}
	})
}
