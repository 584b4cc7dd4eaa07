package password

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const cheap = "$6$rounds=1000$saltstring$2BkAo106CG84raQcWpAlhyy6TSSkAsL1nfvBCoezLYyerUzY2l8axTvq6NynEt7SQAx3/cdop9ds0po8uaeHq0"

func found(hash string) func() (string, error) { return func() (string, error) { return hash, nil } }

func TestCheck(t *testing.T) {
	var logs bytes.Buffer
	c := NewChecker(slog.New(slog.NewTextHandler(&logs, nil)))
	lost := errors.New("table is gone")
	for _, x := range []struct {
		account, password string
		hash              string
		lost              error
		ok                bool
		err               error
	}{
		{"alice", "secret", cheap, nil, true, nil},
		{"alice", "secret", cheap, nil, true, nil},
		{"bob", "wrong", cheap, nil, false, nil},
		{"nobody", "secret", "", nil, false, nil}, // the decoy's own password
		{"gone", "secret", "", lost, false, lost},
		{"clear", "secret", "secret", nil, false, ErrScheme},
		{"dora", "secret", hashes["md5crypt"], nil, true, nil},
	} {
		ok, err := c.Check(t.Context(), x.account, x.password, func() (string, error) { return x.hash, x.lost })
		if ok != x.ok || !errors.Is(err, x.err) {
			t.Errorf("%s: %v, %v, want %v, %v", x.account, ok, err, x.ok, x.err)
		}
	}
	if got := strings.Count(logs.String(), "old kind"); got != 1 || strings.Contains(logs.String(), "$1$") {
		t.Errorf("log:\n%s", &logs)
	}
}

// TestUnknownAccount holds the work for an account that does not exist to that
// for one that does, by counting what is hashed instead of taking times.
func TestUnknownAccount(t *testing.T) {
	c := NewChecker(slog.New(slog.DiscardHandler))
	first := c.decoy
	c.Imitate("no hash")
	if c.decoy != first {
		t.Error("imitates what is no hash")
	}
	c.Imitate(hashes["bcrypt, 2b"])
	if name := c.Imitates(); name != "bcrypt" {
		t.Errorf("imitates %s", name)
	}
	if _, err := c.Check(t.Context(), "alice", "wrong", found(hashes["yescrypt"])); err != nil {
		t.Fatal(err)
	}
	if name := c.Imitates(); name != "yescrypt" {
		t.Errorf("an unknown account costs what %s costs", name)
	}
}

// TestGuessing checks that a wrong password delays the next check for the
// account and no other, and that checks do not pile up.
func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChecker(slog.New(slog.DiscardHandler))
		check := func(account, password string) (bool, error) {
			return c.Check(t.Context(), account, password, found(cheap))
		}
		began := time.Now()
		for range 3 {
			if ok, err := check("alice", "wrong"); ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		if ok, err := check("bob", "secret"); !ok || err != nil || time.Since(began) != 2*penalty {
			t.Errorf("another account: %v, %v after %v", ok, err, time.Since(began))
		}
		if ok, err := check("alice", "secret"); !ok || err != nil || time.Since(began) != 3*penalty {
			t.Errorf("the right password: %v, %v after %v", ok, err, time.Since(began))
		}
		results := make(chan error)
		for range 2 * maxQueue {
			go func() {
				_, err := check("alice", "wrong")
				results <- err
			}()
		}
		busy := 0
		for range 2 * maxQueue {
			if err := <-results; errors.Is(err, ErrBusy) {
				busy++
			}
		}
		if busy < maxQueue/2 {
			t.Errorf("%d of %d were told to come back", busy, 2*maxQueue)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.Check(ctx, "alice", "secret", found(cheap)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after its time: %v", err)
		}
		time.Sleep(time.Hour)
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.accounts) > 0 {
			t.Errorf("remembers %d accounts for ever", len(c.accounts))
		}
	})
}
