package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	a, err := Choose("")
	if err != nil || a.UID == 0 || a.Name == "" {
		t.Errorf("Choose = %+v, %v", a, err)
	}
	if _, err := Choose("root"); err == nil && os.Geteuid() == 0 {
		t.Error("root is a daemon's account")
	}
	if _, err := Choose("no-such-account"); err == nil {
		t.Error("an unknown account is accepted")
	}
}

func TestPrepareAndLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "spool")
	self := Account{UID: os.Geteuid(), GID: os.Getegid()}
	if err := Prepare(dir, self); err != nil {
		t.Fatal(err)
	}
	first, err := Acquire(dir, self)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(dir, self); err == nil || !strings.Contains(err.Error(), "another smtpd, process") {
		t.Errorf("second lock: %v", err)
	}
	first.Release()
	again, err := Acquire(dir, self)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

func TestPrepareRefusesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Prepare(path, Account{}); err == nil {
		t.Error("a file is a spool")
	}
}

func runLocals(ctx context.Context, front, rest []Component) error {
	l := NewLocals(ctx)
	l.Start(front, rest)
	return l.Wait()
}

// TestRetire starts a second generation: the first ends, its front when it
// likes and then its rest, and nothing else does.
func TestRetire(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan string, 10)
	part := func(name string, done <-chan struct{}) Component {
		return Component{name, func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-done:
			}
			ended <- name
			return nil
		}}
	}
	l := NewLocals(ctx)
	over := make(chan struct{})
	first := l.Start([]Component{part("smtp", over)}, []Component{part("mfa", nil)})
	l.Start([]Component{part("smtp.2", nil)}, []Component{part("mfa.2", nil)})
	first.Retire()
	close(over)
	for _, want := range []string{"smtp", "mfa"} {
		if got := <-ended; got != want {
			t.Errorf("%s ended, want %s", got, want)
		}
	}
	cancel()
	if err := l.Wait(); err != nil {
		t.Error(err)
	}
	if got := <-ended + " " + <-ended; got != "smtp.2 mfa.2" {
		t.Errorf("then %s", got)
	}
}

// TestLocalOrder checks that the rest outlives the front.
func TestLocalOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var order []string
	part := func(name string) Component {
		return Component{name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name)
			return nil
		}}
	}
	cancel()
	if err := runLocals(ctx, []Component{part("smtp")}, []Component{part("queue")}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(order, " ") != "smtp queue" {
		t.Error(order)
	}
}

// TestLocalFailure checks that one component's end ends all, with its reason.
func TestLocalFailure(t *testing.T) {
	waits := Component{"smtp", func(ctx context.Context) error { <-ctx.Done(); return nil }}
	broken := errors.New("disk full")
	err := runLocals(t.Context(), []Component{waits}, []Component{{"queue", func(context.Context) error { return broken }}})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "queue: ") {
		t.Errorf("got %v", err)
	}
	err = runLocals(t.Context(), []Component{waits}, []Component{{"queue", func(context.Context) error { return nil }}})
	if err == nil {
		t.Error("a component that ends by itself is no failure")
	}
}
