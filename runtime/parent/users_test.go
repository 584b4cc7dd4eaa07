package parent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/runtime/imsg"
)

// processes fakes the processes of users.
type processes struct {
	handler imsg.Handler
	mu      sync.Mutex
	started []uint32 // user ids
	conns   []imsg.Conn
	ended   int
}

// A fakeProcess notes its end.
type fakeProcess struct {
	imsg.Conn
	closed func()
}

func (f *fakeProcess) Close() error {
	f.closed()
	return f.Conn.Close()
}

func (p *processes) start(uid, _ uint32) (imsg.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours, theirs := imsg.Pipe()
	p.started, p.conns = append(p.started, uid), append(p.conns, theirs)
	go imsg.NewPeer(theirs, p.handler).Run(context.Background())
	return &fakeProcess{ours, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended++
	})}, nil
}

func delivers(_ context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	return imsg.Message{Data: appendResult(nil, delivered)}, nil
}

func deliverAs(t *testing.T, u *users, uid uint32) Result {
	t.Helper()
	return u.deliver(t.Context(), Delivery{As: Account{Name: "u", UID: uid, GID: 1}, Method: Maildir}, devNull(t))
}

func devNull(t *testing.T) *os.File {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestUserProcesses checks that a user has one process, which is used again,
// ended when it is idle, and that user id 0 gets none.
func TestUserProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &processes{handler: delivers}
		u := newUsers(p.start)
		for _, uid := range []uint32{5, 5, 6, 5} {
			if r := deliverAs(t, u, uid); r != delivered {
				t.Errorf("user %d: %v", uid, r)
			}
		}
		if r := deliverAs(t, u, 0); r.Outcome != PermFail {
			t.Errorf("user 0: %v", r)
		}
		if f, err := u.forward(t.Context(), Account{Home: "/root"}); f != nil || err != nil {
			t.Errorf(".forward of user 0: %v, %v", f, err)
		}
		if len(p.started) != 2 || p.ended != 0 {
			t.Errorf("started for %v, %d ended", p.started, p.ended)
		}
		time.Sleep(idleLimit / 2)
		deliverAs(t, u, 6)
		time.Sleep(idleLimit/2 + time.Second)
		synctest.Wait()
		if p.ended != 1 || u.workers[identity{6, 1}] == nil {
			t.Errorf("%d ended, left %v", p.ended, u.workers)
		}
		u.close()
		synctest.Wait()
		if p.ended != 2 {
			t.Errorf("%d of 2 ended", p.ended)
		}
	})
}

// TestUserProcessLimit checks that one more than the limit waits until another
// has no work.
func TestUserProcessLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		p := &processes{handler: func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
			<-hold
			return delivers(ctx, m)
		}}
		u := newUsers(p.start)
		var all sync.WaitGroup
		for i := range maxUsers + 10 {
			all.Go(func() {
				if r := deliverAs(t, u, uint32(i+1)); r != delivered {
					t.Error(r)
				}
			})
		}
		synctest.Wait()
		if len(p.started) != maxUsers {
			t.Errorf("%d processes, want %d", len(p.started), maxUsers)
		}
		close(hold)
		all.Wait()
		u.close()
		synctest.Wait()
		if len(p.started) != maxUsers+10 || p.ended != len(p.started) {
			t.Errorf("%d started, %d ended", len(p.started), p.ended)
		}
	})
}

// TestUserProcessDies checks that a delivery whose process dies is put off,
// and that the next one has another process.
func TestUserProcessDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(processes)
		p.handler = func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
			if len(p.conns) == 1 {
				p.conns[0].Close()
				<-ctx.Done()
			}
			return delivers(ctx, m)
		}
		u := newUsers(p.start)
		if r := deliverAs(t, u, 5); r.Outcome != TempFail {
			t.Errorf("with the process that died: %v", r)
		}
		synctest.Wait()
		if r := deliverAs(t, u, 5); r != delivered {
			t.Errorf("with the next: %v", r)
		}
		u.close()
	})
}

// TestUserProcessCancelled checks that what nobody waits for is not gone on
// with.
func TestUserProcessCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped := make(chan struct{})
		p := &processes{handler: func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
			<-ctx.Done()
			close(stopped)
			return imsg.Message{}, ctx.Err()
		}}
		u := newUsers(p.start)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := u.deliver(ctx, Delivery{As: Account{UID: 5}, Method: Maildir}, devNull(t))
		if r.Outcome != TempFail {
			t.Errorf("got %v", r)
		}
		<-stopped
		u.close()
	})
}

// TestLMTPForAll checks that one process speaks LMTP for all users, but for a
// server that it may not call and for what a wrapper is around.
func TestLMTPForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := &processes{handler: delivers}
		u := newUsers(own.start)
		asked := 0
		ours, theirs := imsg.Pipe()
		go imsg.NewPeer(theirs, func(_ context.Context, m imsg.Message) (imsg.Message, error) {
			asked++
			d, err := parseDelivery(m.Data)
			if err != nil || m.File == nil {
				t.Errorf("delivery %+v, %v, content %v", d, err, m.File)
			}
			m.File.Close()
			r := delivered
			switch d.Target {
			case "closed":
				r = failure(syscall.EACCES)
			case "full":
				r = Result{TempFail, "4.2.2", "full"}
			}
			return imsg.Message{Data: appendResult(nil, r)}, nil
		}).Run(t.Context())
		u.lmtp = &courier{log: slog.New(slog.DiscardHandler), start: func() (imsg.Conn, error) { return ours, nil }}
		for i, c := range []struct {
			target, wrapper string
			want            Outcome
			asked, own      int // in all
		}{
			{"open", "", Delivered, 1, 0}, {"open", "", Delivered, 2, 0}, {"full", "", TempFail, 3, 0},
			{"closed", "", Delivered, 4, 1}, {"open", "nice", Delivered, 4, 2},
		} {
			d := Delivery{As: Account{Name: "u", UID: uint32(i + 1), GID: 1}, Method: LMTP, Target: c.target, Wrapper: c.wrapper}
			r := u.deliver(t.Context(), d, devNull(t))
			if r.Outcome != c.want || asked != c.asked || len(own.started) != c.own {
				t.Errorf("%+v: %+v, asked %d times, %d processes of users", c, r, asked, len(own.started))
			}
		}
		u.close()
		synctest.Wait()
	})
}

// TestForwardLimit checks that a home which does not answer is given up.
func TestForwardLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &processes{handler: func(ctx context.Context, _ imsg.Message) (imsg.Message, error) {
			<-ctx.Done()
			return imsg.Message{}, ctx.Err()
		}}
		u := newUsers(p.start)
		began := time.Now()
		_, err := u.forward(t.Context(), Account{UID: 5, Home: "/home/u"})
		if !errors.Is(err, ErrTemporary) || time.Since(began) != forwardLimit {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		u.close()
	})
}

// TestForwardIsNoFile has the process of a user answer with what is not a file
// of that user: reading it could block, or tell what is not the user's.
func TestForwardIsNoFile(t *testing.T) {
	pipe := func() *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		return r
	}
	for name, open := range map[string]func() *os.File{
		"pipe": pipe, "device": func() *os.File { return devNull(t) },
		"of another user": func() *os.File {
			f, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &processes{handler: func(context.Context, imsg.Message) (imsg.Message, error) {
				return forwardMessage(open(), nil), nil
			}}
			u := newUsers(p.start)
			defer u.close()
			f, err := u.forward(t.Context(), Account{UID: uint32(os.Geteuid()) + 1, Home: "/home/u"})
			if f != nil || !errors.Is(err, ErrPermanent) {
				t.Errorf("got %v, %v", f, err)
			}
		})
	}
}

// TestMakeBox checks that root makes a mailbox for a user in the directory of
// the system, and nothing else.
func TestMakeBox(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes mailboxes for others")
	}
	dir := t.TempDir()
	u := newUsers(nil)
	u.boxes = filepath.Join(dir, "mail")
	secret := filepath.Join(dir, "secret")
	for _, err := range []error{
		os.Mkdir(u.boxes, 0o755), os.WriteFile(secret, nil, 0o600), os.Symlink(secret, filepath.Join(u.boxes, "linked")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, target string
		made         bool
	}{
		{"joe", "mail/joe", true},
		{"linked", "mail/linked", false},
		{"joe", "mail/ann", false},
		{"joe", "elsewhere/joe", false},
		{"..", "mail/..", false},
	} {
		d := Delivery{As: Account{Name: c.name, UID: 61001, GID: 61002}, Method: Mbox, Target: dir + "/" + c.target}
		for range 2 { // the second time it is there
			if err := u.makeBox(d); err != nil {
				t.Errorf("%s: %v", c.target, err)
			}
		}
		info, err := os.Lstat(d.Target)
		if made := err == nil && info.Mode().IsRegular(); made != c.made {
			t.Errorf("%s: made %v, want %v", c.target, made, c.made)
		} else if made {
			st := info.Sys().(*syscall.Stat_t)
			if st.Uid != 61001 || st.Gid != 61002 || info.Mode() != 0o600 {
				t.Errorf("%s: user %d, group %d, mode %v", c.target, st.Uid, st.Gid, info.Mode())
			}
		}
	}
	if info, err := os.Stat(secret); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the file that a link names was given away: %v", err)
	}
}
