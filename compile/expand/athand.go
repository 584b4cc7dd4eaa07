package expand

import (
	"context"
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// An AtHand is the World of what was brought along: the rule table with the
// content of its tables, and copies of what else a mail host has. It opens
// nothing. Of a table without content it says ErrUnknown.
//
// Without a copy of the accounts it takes every user for one of the system,
// and without a copy of his .forward takes him to have none. What it takes
// for granted is in Assumed, so that nobody believes it was looked up.
type AtHand struct {
	Rules       *compile.Ruleset
	Transaction *engine.Transaction
	// Decider decides by Rules. Lookups are for it alone; nil is nobody.
	Decider engine.Engine
	Lookups engine.Lookups

	Accounts *compile.Table                                      // of the system, or nil
	Forwards map[string]string                                   // by user; or nil
	File     func(path string) (text string, ok bool, err error) // included by aliases; or nil
	// Down says of a table that it fails; nil: none does.
	Down func(compile.TableID) error
	// Ask asks a table without content, or the system if it is 0. nil: nobody
	// can be asked.
	Ask func(t compile.TableID, s engine.Service, key string) (value string, ok bool, err error)

	Assumed []Assumption
	static  map[*compile.Table]*engine.Static
}

var _ World = (*AtHand)(nil)

// An Assumption is what an AtHand took for granted: that a user has an
// account (AccountOf), or that he has no .forward (ForwardOf).
type Assumption struct {
	Subject Subject
	User    string
}

// String says what is assumed.
func (a Assumption) String() string {
	if a.Subject == ForwardOf {
		return a.User + " has no .forward"
	}
	return a.User + " is a user of the system"
}

func (w *AtHand) assume(s Subject, user string) {
	for _, a := range w.Assumed {
		if a.Subject == s && a.User == user {
			return
		}
	}
	w.Assumed = append(w.Assumed, Assumption{s, user})
}

// Decide implements World.
func (w *AtHand) Decide(ctx context.Context, dest engine.Address, internal bool) engine.Decision {
	tx := *w.Transaction
	tx.Rcpt = dest
	if internal {
		tx.Kind = engine.FromInternal
	}
	return w.Decider.Decide(ctx, &tx, w.Lookups)
}

// Alias implements World.
func (w *AtHand) Alias(_ context.Context, t compile.TableID, key string) (string, bool, error) {
	return w.lookup(t, engine.Alias, key)
}

func (w *AtHand) lookup(t compile.TableID, s engine.Service, key string) (string, bool, error) {
	table := w.Rules.Table(t)
	if w.Down != nil {
		if err := w.Down(t); err != nil {
			return "", false, fmt.Errorf("table %s: %w", table.Name, err)
		}
	}
	if table.Kind == compile.Dynamic && w.Ask != nil {
		return w.Ask(t, s, key)
	}
	if table.Kind == compile.Dynamic {
		return "", false, fmt.Errorf("table %s: its content is %w", table.Name, ErrUnknown)
	}
	return w.index(table).Lookup(s, key)
}

func (w *AtHand) index(t *compile.Table) *engine.Static {
	st := w.static[t]
	if st == nil {
		st = engine.NewStatic(t, w.Rules.SMTP.SubAddrDelim)
		if w.static == nil {
			w.static = make(map[*compile.Table]*engine.Static)
		}
		w.static[t] = st
	}
	return st
}

// User implements World.
func (w *AtHand) User(_ context.Context, t compile.TableID, name string) (Account, bool, error) {
	if t == 0 || w.Rules.Table(t).Backend == "getpwnam" {
		return w.systemUser(name)
	}
	return parsed(name)(w.lookup(t, engine.UserInfo, name))
}

// parsed returns what makes an account of the answer to a lookup.
func parsed(name string) func(value string, ok bool, err error) (Account, bool, error) {
	return func(value string, ok bool, err error) (Account, bool, error) {
		if err != nil || !ok {
			return Account{}, false, err
		}
		a, err := ParseAccount(name, value)
		return a, err == nil, err
	}
}

// systemUser looks into the copy of the system's accounts: a list of names,
// or a mapping as a table of users has it or as passwd(5) has it.
func (w *AtHand) systemUser(name string) (Account, bool, error) {
	assumed := Account{Name: name, UID: 1, GID: 1, Home: "/home/" + name}
	if name == "root" {
		assumed.UID, assumed.GID = 0, 0
	}
	if w.Accounts == nil && w.Ask != nil {
		return parsed(name)(w.Ask(0, engine.UserInfo, name))
	}
	if w.Accounts == nil {
		w.assume(AccountOf, name)
		return assumed, true, nil
	}
	value, ok, err := w.index(w.Accounts).Lookup(engine.UserInfo, name)
	if err != nil || !ok {
		return Account{}, false, err
	}
	if w.Accounts.Kind == compile.List {
		return assumed, true, nil
	}
	// name:password:uid:gid:gecos:home:shell
	if f := strings.Split(value, ":"); len(f) == 6 {
		value = f[1] + ":" + f[2] + ":" + f[4]
	}
	return parsed(name)(value, true, nil)
}

// Forward implements World.
func (w *AtHand) Forward(_ context.Context, a Account) (string, bool, error) {
	text, ok := w.Forwards[a.Name]
	if !ok {
		w.assume(ForwardOf, a.Name)
	}
	return text, ok, nil
}

// Include implements World.
func (w *AtHand) Include(_ context.Context, path string) (string, bool, error) {
	if w.File == nil {
		return "", false, fmt.Errorf("%s: its content is %w", path, ErrUnknown)
	}
	return w.File(path)
}
