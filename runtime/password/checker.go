package password

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

// Limits of guessing.
const (
	penalty  = time.Second // from a wrong password to the next check for the account
	maxQueue = 8           // checks that wait for one account
)

// ErrBusy is the answer if too many checks wait for one account: a temporary
// failure, and no word on the password.
var ErrBusy = errors.New("too many passwords are tried for one account")

// A Checker checks passwords. No more are hashed at once than there are
// processors, and those of one account one after the other, with a pause after
// a wrong one: from however many addresses somebody guesses, it is no faster.
type Checker struct {
	log   *slog.Logger
	slots chan struct{}

	mu       sync.Mutex
	decoy    *Hash // like the last that was checked
	accounts map[string]*turn
	warned   map[string]bool // accounts with a hash of an old kind
}

// A turn orders the checks for one account.
type turn struct {
	next  chan struct{} // holds a token while nobody checks
	users int
	after time.Time // no check before
}

// NewChecker returns a Checker that logs accounts whose hash is of an old kind.
func NewChecker(log *slog.Logger) *Checker {
	decoy, err := Parse("$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.")
	if err != nil {
		panic(err) // a constant
	}
	return &Checker{
		log: log, slots: make(chan struct{}, runtime.GOMAXPROCS(0)), decoy: decoy,
		accounts: make(map[string]*turn), warned: make(map[string]bool),
	}
}

// Check reports whether password is that of an account, the hash of which find
// returns. find returns "" if there is no such account, or if nobody may log in
// as it; that takes as long as a wrong password.
func (c *Checker) Check(ctx context.Context, account, password string, find func() (hash string, err error)) (ok bool, err error) {
	t, err := c.begin(ctx, account)
	if err != nil {
		return false, err
	}
	defer func() { c.end(account, t, ok) }()
	text, err := find()
	if err != nil {
		return false, err
	}
	return c.match(ctx, account, text, password)
}

// Guard is Check by somebody else's means: verify says whether the password is
// the right one. Guessing is as slow as with Check.
func (c *Checker) Guard(ctx context.Context, account string, verify func() (bool, error)) (ok bool, err error) {
	t, err := c.begin(ctx, account)
	if err != nil {
		return false, err
	}
	defer func() { c.end(account, t, ok) }()
	return verify()
}

// Imitate has the checks for accounts that do not exist take as long as one
// with this hash, until another has been checked. A hash that is none changes
// nothing.
func (c *Checker) Imitate(text string) {
	if h, err := Parse(text); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.decoy = h
	}
}

// Imitates returns the scheme that an account which does not exist costs.
func (c *Checker) Imitates() string {
	name, _ := c.likeLast().Scheme()
	return name
}

// match compares a password with a hash, or with one that is like it if there
// is none.
func (c *Checker) match(ctx context.Context, account, text, password string) (bool, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-c.slots }()
	hash := c.likeLast()
	if text != "" {
		var err error
		if hash, err = Parse(text); err != nil {
			return false, err
		}
		c.mu.Lock()
		c.decoy = hash
		c.mu.Unlock()
	}
	ok, err := hash.Match(password)
	if ok && text != "" {
		c.warn(account, hash)
		return true, nil
	}
	return false, err
}

func (c *Checker) likeLast() *Hash {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.decoy
}

// warn says once that an account has a hash of an old kind.
func (c *Checker) warn(account string, h *Hash) {
	name, old := h.Scheme()
	c.mu.Lock()
	defer c.mu.Unlock()
	if old && !c.warned[account] {
		c.warned[account] = true
		c.log.Warn("the hash of a password is of an old kind: let it be set anew", "user", account, "kind", name)
	}
}

// begin waits for the turn of a check.
func (c *Checker) begin(ctx context.Context, account string) (*turn, error) {
	c.mu.Lock()
	t := c.accounts[account]
	if t == nil {
		t = &turn{next: make(chan struct{}, 1)}
		t.next <- struct{}{}
		c.accounts[account] = t
	}
	if t.users > maxQueue {
		c.mu.Unlock()
		return nil, ErrBusy
	}
	t.users++
	c.mu.Unlock()
	select {
	case <-t.next:
	case <-ctx.Done():
		c.leave(account, t)
		return nil, ctx.Err()
	}
	if wait := time.Until(t.after); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			t.next <- struct{}{}
			c.leave(account, t)
			return nil, ctx.Err()
		}
	}
	return t, nil
}

// end lets the next check begin.
func (c *Checker) end(account string, t *turn, ok bool) {
	if ok {
		t.next <- struct{}{}
		c.leave(account, t)
		return
	}
	t.after = time.Now().Add(penalty)
	t.next <- struct{}{}
	time.AfterFunc(penalty, func() { c.leave(account, t) })
}

// leave forgets an account that nobody asks about.
func (c *Checker) leave(account string, t *turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(c.accounts, account)
	}
}
