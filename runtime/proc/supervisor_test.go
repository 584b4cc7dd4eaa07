package proc

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpd/runtime/imsg"
)

func TestOrder(t *testing.T) {
	for _, o := range []Order{
		{Role: "queue", As: Account{Name: "user 7", UID: 7, GID: 8}, Root: "/var/spool/smtpd/store"},
		{Role: "lka", As: Account{Name: "user 7", UID: 7, GID: 8, Groups: []int{9, 10}}, Args: []string{"programs"}},
		{Role: "deliver", Args: []string{"mx.example"}},
	} {
		got, ok, err := ParseOrder(o.CommandLine())
		if len(got.As.Groups) == 0 {
			got.As.Groups = nil
		}
		if !ok || err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("%v gave %+v, %v, %v", o.CommandLine(), got, ok, err)
		}
	}
	for _, args := range [][]string{{"smtpd"}, {"smtpd", "-d"}, {"smtpd", "-d", "--role=queue"}} {
		if _, ok, _ := ParseOrder(args); ok {
			t.Errorf("%v is taken for an order", args)
		}
	}
	for _, as := range []string{"", "0:1", "1:0", "1", "1:2,0", "1:-2", "x:y"} {
		if _, _, err := ParseOrder([]string{"smtpd", "--role=queue", "--as=" + as}); err == nil {
			t.Errorf("--as=%s is accepted", as)
		}
	}
	if err := (Order{Role: "queue"}).Enter(); err == nil {
		t.Error("a process without an account goes on as it is")
	}
}

// TestPause checks that a component which dies again and again is started ever
// more rarely, and one that lives is forgiven.
func TestPause(t *testing.T) {
	p := new(process)
	for i, want := range []time.Duration{50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		if got := p.pause(0); got != want*time.Millisecond {
			t.Errorf("death %d: %v, want %v", i+1, got, want*time.Millisecond)
		}
	}
	if got := p.pause(time.Hour); got != firstPause {
		t.Errorf("after an hour: %v", got)
	}
	if got := p.pause(2 * forgiveness); got != firstPause {
		t.Errorf("one that lives for a while each time: %v", got)
	}
}

// TestJoin has a parent give a component what it needs, and more later.
func TestJoin(t *testing.T) {
	parent, conn := imsg.Pipe()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	a, b, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	go parent.Send(
		imsg.Frame{Type: frameLink, Data: appendName(nil, "queue"), File: a},
		imsg.Frame{Type: frameFile, Data: appendName(nil, "setup"), File: f},
		imsg.Frame{Type: frameStart},
	)
	c, err := join(conn, "mda")
	if err != nil {
		t.Fatal(err)
	}
	hello, err := parent.Recv()
	var g greeting
	if err != nil || g.parse(hello.Data) != nil || g != (greeting{"mda", buildID()}) || g.Build == "" {
		t.Errorf("greeting %v, %v", g, err)
	}
	if c.Files["setup"] == nil || c.links["queue"] == nil {
		t.Errorf("got files %v, links %v", c.Files, c.links)
	}
	// Now nobody is left who could tell it to stop.
	parent.Close()
	if err := c.listen(nil); !errors.Is(err, ErrOrphan) {
		t.Errorf("without a parent: %v", err)
	}
}

// TestJoinRefuses checks that what no parent sends is no order.
func TestJoinRefuses(t *testing.T) {
	for name, f := range map[string]imsg.Frame{
		"type":             {Type: 99},
		"file without one": {Type: frameFile, Data: appendName(nil, "setup")},
		"link without one": {Type: frameLink, Data: appendName(nil, "queue")},
		"bad name":         {Type: frameLink, Data: []byte("x")},
	} {
		parent, conn := imsg.Pipe()
		go parent.Send(f)
		if _, err := join(conn, "mda"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzGreeting checks that what is taken for a greeting is one.
func FuzzGreeting(f *testing.F) {
	f.Add(greeting{"queue", "build"}.append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		var g greeting
		if g.parse(in) == nil && !bytes.Equal(g.append(nil), in) {
			t.Fatalf("%x became %+v", in, g)
		}
	})
}

// TestDivide checks that the queue gets what another account had, and that
// nothing is given away through a second name or a link.
func TestDivide(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	owner := func(path string) int {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "store", "sub", "file")
	outside := filepath.Join(dir, "outside")
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), os.WriteFile(outside, nil, 0o600),
		os.Symlink(outside, filepath.Join(dir, "store", "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	queue := Account{Name: "queue", UID: 61001, GID: 61001}
	if err := Divide(dir, queue); err != nil {
		t.Fatal(err)
	}
	if owner(file) != 61001 || owner(filepath.Join(dir, "store")) != 61001 || owner(outside) != 0 || owner(filepath.Join(dir, "empty")) != 0 {
		t.Errorf("owners %d, %d, outside %d", owner(file), owner(filepath.Join(dir, "store")), owner(outside))
	}
	if err := os.Link(outside, filepath.Join(dir, "store", "sub", "second")); err != nil {
		t.Fatal(err)
	}
	err := Divide(dir, Account{Name: "other", UID: 61002, GID: 61002})
	if err == nil || !strings.Contains(err.Error(), "more than one name") || owner(outside) != 0 {
		t.Errorf("a file with a second name: %v, owner %d", err, owner(outside))
	}
}
