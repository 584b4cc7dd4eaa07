package lka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tablefile"
	"smtpd/runtime/imsg"
	"smtpd/runtime/parent"
	"smtpd/runtime/password"
)

// A loginQuery asks whether a password is that of a user in a table of
// credentials, or of an account of the system if the table is 0.
type loginQuery struct {
	Table          compile.TableID
	User, Password string
}

func (q loginQuery) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(q.Table))
	return imsg.AppendString(imsg.AppendString(b, q.User), q.Password)
}

func (q *loginQuery) parse(b []byte) error {
	r := imsg.NewReader(b)
	*q = loginQuery{Table: compile.TableID(r.Uint32()), User: r.String(), Password: r.String()}
	return r.Close()
}

// Authenticate reports whether password is that of user by table t, or by the
// accounts of the system if t is 0.
func (c *Client) Authenticate(ctx context.Context, t compile.TableID, user, password string) (bool, error) {
	var a valueAnswer
	err := c.call(ctx, msgLogin, loginQuery{t, user, password}, &a)
	return a.Found, err
}

// An authenticator is a table that judges passwords itself. The error is
// errService if it does not after all.
type authenticator interface {
	authenticate(ctx context.Context, user, password string) (bool, error)
}

var _ authenticator = remote{}

// logins answers for passwords. The hashes stay here, and those of the system
// with parent.
type logins struct {
	log    *slog.Logger
	parent *parent.Client // nil: there is none

	mu       sync.Mutex
	checkers map[compile.TableID]*password.Checker
}

func newLogins(log *slog.Logger) *logins {
	return &logins{log: log, checkers: make(map[compile.TableID]*password.Checker)}
}

// checker returns that of a table, which imitates a hash of the table for users
// who are not in it.
func (l *logins) checker(ctx context.Context, id compile.TableID, t table) *password.Checker {
	l.mu.Lock()
	c := l.checkers[id]
	if c == nil {
		c = password.NewChecker(l.log)
		l.checkers[id] = c
		defer l.imitate(ctx, c, t)
	}
	l.mu.Unlock()
	return c
}

func (l *logins) imitate(ctx context.Context, c *password.Checker, t table) {
	if value, ok, err := t.fetch(ctx, engine.Credentials); err == nil && ok {
		c.Imitate(hashOf(value))
	}
}

// hashOf returns the hash in a value of credentials, user:hash or hash. The
// user is the key.
func hashOf(value string) string {
	if _, hash, ok := strings.Cut(value, ":"); ok {
		return hash
	}
	return value
}

// login answers a query. Whatever goes wrong is an error, never "no".
func (a *agent) login(ctx context.Context, q loginQuery) (valueAnswer, error) {
	ok, err := a.authenticate(ctx, q)
	if err != nil {
		a.log.Warn("password cannot be checked", "user", q.User, "err", err)
	}
	return valueAnswer{Found: ok}, err
}

func (a *agent) authenticate(ctx context.Context, q loginQuery) (bool, error) {
	if q.Table == 0 {
		if a.logins.parent == nil {
			return false, errors.New("nobody here knows the passwords of accounts")
		}
		return a.logins.parent.Login(ctx, q.User, q.Password)
	}
	t, name, err := a.table(q.Table)
	if err != nil {
		return false, err
	}
	user := tablefile.Fold(q.User)
	if len(user) > tablefile.MaxKey {
		return false, nil
	}
	if own, ok := t.(authenticator); ok {
		ok, err := own.authenticate(ctx, user, q.Password)
		if err == nil {
			return ok, nil
		}
		if !errors.Is(err, errService) {
			return false, fmt.Errorf("table %s: %w", name, err)
		}
	}
	return a.logins.checker(ctx, q.Table, t).Check(ctx, user, q.Password, func() (string, error) {
		value, ok, err := t.lookup(ctx, engine.Credentials, user)
		switch {
		case err != nil:
			return "", fmt.Errorf("table %s: %w", name, err)
		case ok && hashOf(value) == "":
			return "", fmt.Errorf("table %s: there is no hash for this user", name)
		case ok:
			return hashOf(value), nil
		}
		return "", nil
	})
}
