package oshost

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestReadFile(t *testing.T) {
	h := New()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	f, err := h.ReadFile(name)
	if err != nil || string(f.Data) != "text" || f.UID != os.Getuid() || f.Mode != 0o640 {
		t.Errorf("%q, uid %d, mode %o, %v", f.Data, f.UID, f.Mode, err)
	}
	if f, err := h.ReadFile("/dev/null"); err != nil || len(f.Data) != 0 {
		t.Errorf("/dev/null: %q, %v", f.Data, err)
	}
	if _, err := h.ReadFile(filepath.Join(dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := h.ReadFile(dir); err == nil {
		t.Error("read a directory")
	}
}

// TestSealed checks that a key file is judged and none of it read.
func TestSealed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	h := Sealed{New()}
	f, err := h.StatKey(name)
	if err != nil || f.Data != nil || f.UID != os.Getuid() || f.Mode != 0o640 {
		t.Errorf("%q, uid %d, mode %o, %v", f.Data, f.UID, f.Mode, err)
	}
	if _, err := h.StatKey(name + ".gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// TestReadFileNeverWaits opens a FIFO that nobody writes to.
func TestReadFileNeverWaits(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Skip(err)
	}
	if _, err := New().ReadFile(name); err == nil { // or it waits for ever
		t.Error("read a FIFO")
	}
}

func TestServerName(t *testing.T) {
	h := New()
	h.ConfDir = t.TempDir()
	if h.ServerName() == "" {
		t.Error("no name without mailname")
	}
	if err := os.WriteFile(filepath.Join(h.ConfDir, "mailname"), []byte("mx.example.org\nsecond\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := h.ServerName(); got != "mx.example.org" {
		t.Errorf("name %q", got)
	}
}

func TestService(t *testing.T) {
	h := New()
	for name, want := range map[string]uint16{"smtp": 25, "smtps": 465, "submission": 587, "25": 0, "": 0, "no-such-service": 0, "SMTP": 0} {
		if got, ok := h.Service(name); got != want || ok != (want != 0) {
			t.Errorf("%q: port %d, %v", name, got, ok)
		}
	}
}

func TestFindService(t *testing.T) {
	const db = `
# comment 1/tcp
smtp		25/tcp		mail
time		37/tcp
submissions	465/tcp		ssmtp smtps urd # Submission over TLS
syslog		514/udp
domain		53/udp
domain		53/tcp
zero		0/tcp
large		65536/tcp
one
`
	for name, want := range map[string]uint16{
		"smtp": 25, "mail": 25, "smtps": 465, "urd": 465, "domain": 53,
		"syslog": 0, "Mail": 0, "Submission": 0, "#": 0, "25/tcp": 0, "zero": 0, "large": 0, "one": 0, "": 0,
	} {
		if got, ok := findService(strings.NewReader(db), name); got != want || ok != (want != 0) {
			t.Errorf("%q: port %d, %v, want %d", name, got, ok, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	h := New()
	local := netip.MustParseAddr("127.0.0.1")
	if !slices.Contains(h.Addrs(), local) {
		t.Errorf("addresses %v", h.Addrs())
	}
	lo, ok := h.Interface("lo")
	if !ok {
		lo, ok = h.Interface("lo0")
	}
	if !ok || !slices.Contains(lo, local) {
		t.Errorf("loopback interface: %v, %v", lo, ok)
	}
	if _, ok := h.Interface("nosuchif0"); ok {
		t.Error("an interface that is not there")
	}
}

func TestHelper(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "table-ldap"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	h := &Host{LibexecDirs: []string{filepath.Join(dir, "none"), dir}}
	if !h.Helper("ldap") || h.Helper("sql") || h.Helper("x/../table-ldap") {
		t.Error("helpers are not as installed")
	}
}
