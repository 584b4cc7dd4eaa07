package parent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"smtpd/runtime/imsg"
)

// newCourierHomes returns the agent of a courier, which is root here, and a
// directory with a home for each of so many users, from uid 62000 on.
func newCourierHomes(t *testing.T, users int) (*agent, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can act for several users in a test")
	}
	a, err := newAgent(Config{ServerName: "mx.example.org", Many: true})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "courier") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range users {
		home := courierAccount(dir, i).Home
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(home, 62000+i, 62000+i); err != nil {
			t.Fatal(err)
		}
	}
	return a, dir
}

func courierAccount(dir string, i int) Account {
	return Account{Name: fmt.Sprint("u", i), UID: uint32(62000 + i), GID: uint32(62000 + i), Home: filepath.Join(dir, fmt.Sprint("u", i))}
}

// bring has a deliver to an account as the courier's process is asked to.
func bring(t *testing.T, a *agent, to Account, m Method, target string) Result {
	t.Helper()
	d := testDelivery(to.Home, m, target)
	d.As, d.User = to, to.Name
	content := testContent(t, testMessage)
	f, err := os.Open(content.Name())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.handle(t.Context(), imsg.Message{Type: typeDeliver, Data: appendDelivery(nil, d), File: f})
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseResult(answer.Data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestCourier checks that what is written for many users at once belongs to
// each of them.
func TestCourier(t *testing.T) {
	const users, each = 20, 10
	a, dir := newCourierHomes(t, users)
	var wg sync.WaitGroup
	for i := range users {
		for range each {
			wg.Go(func() { wantDelivered(t, bring(t, a, courierAccount(dir, i), Maildir, "Maildir")) })
			wg.Go(func() { wantDelivered(t, bring(t, a, courierAccount(dir, i), Mbox, "mbox")) })
		}
	}
	wg.Wait()
	for i := range users {
		home := courierAccount(dir, i).Home
		for _, path := range append(files(t, filepath.Join(home, "Maildir", "new")), filepath.Join(home, "Maildir"), filepath.Join(home, "Maildir", "tmp"), filepath.Join(home, "mbox")) {
			var st syscall.Stat_t
			if err := syscall.Lstat(path, &st); err != nil || int(st.Uid) != 62000+i || int(st.Gid) != 62000+i || st.Mode&0o077 != 0 {
				t.Errorf("%s belongs to %d:%d, mode %o, %v", path, st.Uid, st.Gid, st.Mode, err)
			}
		}
		if n := len(files(t, filepath.Join(home, "Maildir", "new"))); n != each {
			t.Errorf("user %d has %d messages, want %d", i, n, each)
		}
		box, err := os.ReadFile(filepath.Join(home, "mbox"))
		if n := len(fromLine.FindAll(box, -1)); err != nil || n != each {
			t.Errorf("the mbox of user %d has %d messages, %v, want %d", i, n, err, each)
		}
	}
}

// TestCourierTraps checks that nobody has the courier write or read where he
// could not himself.
func TestCourierTraps(t *testing.T) {
	a, dir := newCourierHomes(t, 3)
	attacker, victim := courierAccount(dir, 0), courierAccount(dir, 1)
	wantDelivered(t, bring(t, a, victim, Maildir, "Maildir"))
	wantDelivered(t, bring(t, a, victim, Mbox, "mbox"))
	if err := os.WriteFile(filepath.Join(victim.Home, ".forward"), []byte("victim@example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(attacker.Home, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(victim.Home, "Maildir"), "Maildir")
	link("/root", "root")
	for _, target := range []string{"Maildir", "root/Maildir", victim.Home + "/Maildir", "/root/Maildir", "/etc/Maildir"} {
		if r := bring(t, a, attacker, Maildir, target); r.Outcome != TempFail {
			t.Errorf("%s: %+v, want a temporary failure", target, r)
		}
	}
	if n := len(files(t, filepath.Join(victim.Home, "Maildir", "new"))); n != 1 {
		t.Errorf("the victim has %d messages, want 1", n)
	}
	for _, u := range []Account{{Name: "x", UID: attacker.UID, GID: attacker.GID, Home: victim.Home}, {Name: "x", UID: 0, GID: 0, Home: victim.Home}} {
		m, err := a.handle(t.Context(), imsg.Message{Type: typeForward, Data: appendAccount(nil, u)})
		if err != nil || m.File != nil {
			t.Errorf("as %d: got a file: %v, %v", u.UID, m.File != nil, err)
		}
	}
	root := victim
	root.UID, root.GID = 0, 0
	if r := bring(t, a, root, Maildir, "Maildir"); r.Outcome != PermFail {
		t.Errorf("as root: %+v", r)
	}
	box := filepath.Join(victim.Home, "mbox")
	link(box, "linked")
	if err := os.Link(box, filepath.Join(attacker.Home, "named")); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(box)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"linked", "named", box, "Maildir/mbox", "root/mbox", "/root/mbox", "/etc/passwd", "/etc/mbox"} {
		if r := bring(t, a, attacker, Mbox, target); r.Outcome == Delivered {
			t.Errorf("mbox %s: %+v", target, r)
		}
	}
	if after, err := os.ReadFile(box); err != nil || string(after) != string(before) {
		t.Errorf("the mbox of the victim has changed: %v", err)
	}
	d := testDelivery(attacker.Home, Mbox, "mbox")
	d.As, d.Wrapper = attacker, "true"
	for _, method := range []Method{Mbox, Maildir, LMTP, Command} {
		if d.Method = method; deliver(t, a, d, testMessage).Outcome != TempFail {
			t.Errorf("method %d by a command was done", method)
		}
	}
}

// TestActAs checks that a thread is what it was afterwards, and that only it
// was another meanwhile.
func TestActAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	now := func() [2]int {
		uid, _ := unix.SetfsuidRetUid(-1)
		gid, _ := unix.SetfsgidRetGid(-1)
		return [2]int{uid, gid}
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			uid := 62000 + i
			err := actAs(uint32(uid), uint32(uid+1000), func() {
				if got := now(); got != [2]int{uid, uid + 1000} {
					t.Errorf("acts as %v, want %d", got, uid)
				}
				other := make(chan [2]int)
				go func() { other <- now() }()
				if got := <-other; got != [2]int{0, 0} {
					t.Errorf("another goroutine is %v", got)
				}
			})
			if got := now(); err != nil || got != [2]int{0, 0} {
				t.Errorf("afterwards: %v, %v", got, err)
			}
		})
	}
	wg.Wait()
}

// TestDirect checks that the courier is asked without parent between, as long
// as there is one, and that its loss is a failure for the time being.
func TestDirect(t *testing.T) {
	uid := uint32(62000)
	if os.Geteuid() != 0 {
		uid = uint32(os.Geteuid())
	}
	a, err := newAgent(Config{ServerName: "mx.example.org", Many: true})
	if err != nil {
		t.Fatal(err)
	}
	// The courier, and parent, which starts it once.
	ours, theirs := imsg.Pipe()
	ctx, lose := context.WithCancel(t.Context())
	defer lose()
	ended := make(chan struct{})
	go func() {
		imsg.NewPeer(theirs, a.handle).Run(ctx)
		a.guests.Wait()
		close(ended)
	}()
	u := newUsers(func(uint32, uint32) (imsg.Conn, error) { return nil, errors.New("no processes here") })
	u.courier.log = slog.New(slog.DiscardHandler)
	u.courier.start = func() (imsg.Conn, error) { return ours, nil }
	defer u.close()
	var asked atomic.Int32
	mdaEnd, parentEnd := imsg.Pipe()
	peer := imsg.NewPeer(mdaEnd, nil)
	go peer.Run(t.Context())
	go imsg.NewPeer(parentEnd, func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
		asked.Add(1)
		return u.handle(ctx, m)
	}).Run(t.Context())
	d := NewDirect(NewClient(peer))
	defer d.Close()

	home := t.TempDir()
	if err := errors.Join(os.Chown(home, int(uid), os.Getegid()), os.Chmod(filepath.Dir(home), 0o755)); err != nil {
		t.Fatal(err)
	}
	v := testDelivery(home, Maildir, "Maildir")
	v.As.UID, v.As.GID = uid, uint32(os.Getegid())
	send := func() (Result, error) {
		f, err := os.Open(testContent(t, testMessage).Name())
		if err != nil {
			t.Fatal(err)
		}
		return d.Deliver(t.Context(), v, f)
	}
	for range 3 {
		if r, err := send(); err != nil || r != delivered {
			t.Fatalf("%+v, %v", r, err)
		}
		if f, err := d.Forward(t.Context(), v.As); err != nil || f != nil {
			t.Fatalf("%v, %v", f, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("parent was asked %d times, want once", n)
	}
	if _, err := d.courier.peer.Call(t.Context(), imsg.Message{Type: typeGuest}); err == nil {
		t.Error("a guest may bring others")
	}
	lose()
	<-ended
	if r, err := send(); err != nil || r.Outcome != TempFail {
		t.Errorf("%+v, %v, want a temporary failure", r, err)
	}
}
