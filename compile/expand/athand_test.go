package expand

import (
	"context"
	"errors"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// atHand returns the world of a rule that delivers to accounts.
func atHand() *AtHand {
	rs := &compile.Ruleset{
		Tables: []compile.Table{
			{Name: "aliases", Kind: compile.Mapping, Entries: []compile.Entry{{Key: "far", Value: "x@y.example"}, {Key: "list", Value: ":include:/list"}}},
			{Name: "users", Kind: compile.Mapping, Entries: []compile.Entry{{Key: "bad", Value: "x"}, {Key: "bob", Value: "1:2:/home/bob"}}},
			{Name: "db", Kind: compile.Dynamic, Backend: "db"},
			{Name: "system", Kind: compile.Dynamic, Backend: "getpwnam"},
		},
	}
	rs.SMTP.SubAddrDelim = '+'
	return &AtHand{Rules: rs, Transaction: &engine.Transaction{Kind: engine.FromAddress}, Decider: engine.NewLinear(rs)}
}

func TestAtHandUser(t *testing.T) {
	accounts := func(kind compile.Kind, entries ...compile.Entry) *compile.Table {
		return &compile.Table{Kind: kind, Entries: entries}
	}
	passwd := accounts(compile.Mapping, compile.Entry{Key: "bob", Value: "x:7:8:Bob Bobson:/home/b:/bin/sh"}, compile.Entry{Key: "short", Value: "7:8:/h"},
		compile.Entry{Key: "wrong", Value: "x:y"})
	tests := []struct {
		accounts *compile.Table
		table    compile.TableID
		name     string
		want     string // uid and home, "none", or the error
		assumed  string
	}{
		{nil, 0, "bob", "1 /home/bob", "bob is a user of the system"},
		{nil, 0, "root", "0 /home/root", "root is a user of the system"},
		{nil, 4, "bob", "1 /home/bob", "bob is a user of the system"},
		{nil, 2, "bob", "1 /home/bob", ""},
		{nil, 2, "ann", "none", ""},
		{nil, 2, "bad", "want uid:gid:home", ""},
		{nil, 3, "bob", "table db: its content is not known here", ""},
		{passwd, 0, "bob", "7 /home/b", ""},
		{passwd, 0, "short", "7 /h", ""},
		{passwd, 0, "wrong", "want uid:gid:home", ""},
		{passwd, 0, "ann", "none", ""},
		{accounts(compile.List, compile.Entry{Key: "bob"}), 0, "bob", "1 /home/bob", ""},
		{accounts(compile.List, compile.Entry{Key: "bob"}), 0, "ann", "none", ""},
	}
	for _, tt := range tests {
		w := atHand()
		w.Accounts = tt.accounts
		a, ok, err := w.User(t.Context(), tt.table, tt.name)
		got := "none"
		switch {
		case err != nil:
			got = err.Error()
		case ok:
			got = string('0'+rune(a.UID)) + " " + a.Home
		}
		var assumed []string
		for _, a := range w.Assumed {
			assumed = append(assumed, a.String())
		}
		if !strings.Contains(got, tt.want) || strings.Join(assumed, "; ") != tt.assumed {
			t.Errorf("table %d, %s: %s, assumed %v; want %s, %s", tt.table, tt.name, got, assumed, tt.want, tt.assumed)
		}
	}
}

// A deciderFunc is an Engine that sees what it is to decide.
type deciderFunc func(tx *engine.Transaction)

func (f deciderFunc) Decide(_ context.Context, tx *engine.Transaction, _ engine.Lookups) engine.Decision {
	f(tx)
	return engine.Decision{Outcome: engine.NoRule, Rule: -1}
}

// TestAtHandDecide shows that an address out of an expansion is decided as
// one, and that the transaction of the caller stays as it is.
func TestAtHandDecide(t *testing.T) {
	w := atHand()
	var seen []engine.Transaction
	w.Decider = deciderFunc(func(tx *engine.Transaction) { seen = append(seen, *tx) })
	w.Decide(t.Context(), engine.Address{User: "a", Domain: "b"}, false)
	w.Decide(t.Context(), engine.Address{User: "c", Domain: "d"}, true)
	if seen[0].Kind != engine.FromAddress || seen[0].Rcpt.User != "a" || seen[1].Kind != engine.FromInternal || seen[1].Rcpt.User != "c" {
		t.Errorf("%+v", seen)
	}
	if w.Transaction.Kind != engine.FromAddress || w.Transaction.Rcpt.User != "" {
		t.Errorf("%+v", w.Transaction)
	}
}

func TestAtHandInclude(t *testing.T) {
	w := atHand()
	if _, _, err := w.Include(t.Context(), "/list"); !errors.Is(err, ErrUnknown) {
		t.Errorf("without files: %v", err)
	}
	down := errors.New("down")
	w.Down = func(compile.TableID) error { return down }
	if _, _, err := w.Alias(t.Context(), 1, "far"); !errors.Is(err, down) {
		t.Errorf("a table that is down: %v", err)
	}
}
