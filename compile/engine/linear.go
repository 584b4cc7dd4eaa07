package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"smtpd/compile"
	"smtpd/compile/ere"
)

// A Semantics says whose rules of evaluation apply where OpenSMTPD has a
// defect.
type Semantics uint8

// The semantics.
const (
	// Intended is what the manual means, and what the daemon does.
	Intended Semantics = iota
	// OpenSMTPD78 is OpenSMTPD 7.8 to the letter: a rule with "tls" that is
	// reached is a temporary failure, and so is a lookup that fails before a
	// later criterion could have said no.
	OpenSMTPD78
)

// Errors of lookups.
var (
	ErrTLS       = errors.New(`OpenSMTPD 7.8 fails every mail that reaches "tls"`)
	errNoLookups = errors.New("nobody is there to ask")
)

// A Linear engine tries rule after rule. It is the definition that the
// indexed engine is tested against, so it is kept simple rather than fast.
type Linear struct {
	rules     *compile.Ruleset
	semantics Semantics
	regexes   map[string]*ere.Regexp // nil: the expression is invalid
	// changed holds what files have come to hold since the rules were read.
	changed map[compile.TableID][]compile.Entry
}

// NewLinear returns a Linear engine with the Intended semantics.
func NewLinear(rs *compile.Ruleset) *Linear { return NewLinearWith(rs, Intended) }

// NewLinearWith returns a Linear engine with the given semantics.
func NewLinearWith(rs *compile.Ruleset, s Semantics) *Linear {
	e := &Linear{rules: rs, semantics: s}
	e.compile(nil)
	return e
}

// With returns an engine that decides as e does, but with s for what the
// table id holds, which must be one of FileTables.
func (e *Linear) With(id compile.TableID, s *Static) *Linear {
	next := *e
	next.changed = maps.Clone(e.changed)
	if next.changed == nil {
		next.changed = make(map[compile.TableID][]compile.Entry)
	}
	next.changed[id] = s.entries
	next.compile(e.regexes)
	return &next
}

// compile compiles all expressions but those that are known.
func (e *Linear) compile(known map[string]*ere.Regexp) {
	e.regexes = make(map[string]*ere.Regexp)
	for i := range e.rules.Rules {
		for _, c := range criteria(&e.rules.Rules[i]) {
			if !c.Regex || !isStatic(e.rules, c.Table) {
				continue
			}
			for _, entry := range e.entries(c.Table) {
				e.compileOne(entry.Key, known)
			}
		}
	}
}

func (e *Linear) compileOne(expr string, known map[string]*ere.Regexp) {
	if _, ok := e.regexes[expr]; ok {
		return
	}
	re, ok := known[expr]
	if !ok {
		var err error
		if re, err = ere.Compile(expr); err != nil {
			re = nil
		}
	}
	e.regexes[expr] = re
}

// entries returns what a static table holds.
func (e *Linear) entries(id compile.TableID) []compile.Entry {
	if list, ok := e.changed[id]; ok {
		return list
	}
	return e.rules.Table(id).Entries
}

func criteria(r *compile.Rule) [numParts]compile.Criterion {
	return [numParts]compile.Criterion{r.Tag, r.From.Criterion, r.For.Criterion, r.Helo, r.Auth, r.TLS, r.MailFrom, r.RcptTo}
}

// isStatic reports whether the content of a table is in the Ruleset. What a
// static table says it says at once, and it never fails.
func isStatic(rs *compile.Ruleset, id compile.TableID) bool {
	return id != 0 && rs.Table(id).Kind != compile.Dynamic
}

var _ Engine = (*Linear)(nil)

// Decide implements Engine.
func (e *Linear) Decide(ctx context.Context, tx *Transaction, l Lookups) Decision {
	for i := range e.rules.Rules {
		r := &e.rules.Rules[i]
		ok, err := e.holds(ctx, tx, r, l)
		switch {
		case err != nil:
			return Decision{Outcome: TempFail, Rule: i, Err: err}
		case ok:
			return decided(r, i)
		}
	}
	return Decision{Outcome: NoRule, Rule: -1}
}

func decided(r *compile.Rule, i int) Decision {
	if r.Action == 0 {
		return Decision{Outcome: Reject, Rule: i}
	}
	return Decision{Outcome: Accept, Rule: i}
}

// holds reports whether every criterion holds. What the rule table itself
// says no to is passed over without a lookup, so that a table which is down
// only stops the mail that depends on it.
func (e *Linear) holds(ctx context.Context, tx *Transaction, r *compile.Rule, l Lookups) (bool, error) {
	if e.semantics == Intended {
		for p := range numParts {
			if q := tx.AskPart(r, p); e.constant(q) {
				if ok, _ := e.Answer(ctx, q, l); !ok {
					return false, nil
				}
			}
		}
	}
	for p := range numParts {
		if ok, err := e.Answer(ctx, tx.AskPart(r, p), l); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// constant reports whether the answer to q needs no lookup. A key that is
// too long is answered like a lookup that fails.
func (e *Linear) constant(q Question) bool {
	return q.Sign == compile.Absent || q.Answer != Ask || isStatic(e.rules, q.Table) && len(q.Key) <= maxKey
}

// Answer reports whether one criterion of a rule holds, its sign applied. A
// criterion that is absent holds.
func (e *Linear) Answer(ctx context.Context, q Question, l Lookups) (bool, error) {
	if q.Sign == compile.Absent {
		return true, nil
	}
	if q.Part == PartTLS && e.semantics == OpenSMTPD78 {
		return false, ErrTLS
	}
	switch q.Answer {
	case Never:
		return false, nil
	case Ask:
		found, err := e.lookup(ctx, q, l)
		return found == (q.Sign == compile.Is), err
	}
	return (q.Answer == Yes) == (q.Sign == compile.Is), nil
}

func (e *Linear) lookup(ctx context.Context, q Question, l Lookups) (bool, error) {
	key := fold(q.Key)
	if len(key) > maxKey {
		return false, fmt.Errorf("%s: %w", q.Part, ErrKeyTooLong)
	}
	switch {
	case !isStatic(e.rules, q.Table):
		return check(ctx, l, q.Part, q.Table, e.rules.Table(q.Table), q.Service, key)
	case q.Service == Regex:
		return e.matchAny(e.entries(q.Table), key), nil
	}
	return scan(e.entries(q.Table), q.Service, key, e.rules.SMTP.SubAddrDelim) >= 0, nil
}

func check(ctx context.Context, l Lookups, p Part, id compile.TableID, t *compile.Table, s Service, key string) (found bool, err error) {
	err = errNoLookups
	if l != nil {
		found, err = l.Check(ctx, id, s, key)
	}
	if err != nil {
		return false, fmt.Errorf("%s: table %s: %w", p, t.Name, err)
	}
	return found, nil
}

func (e *Linear) matchAny(entries []compile.Entry, key string) bool {
	for _, entry := range entries {
		if re := e.regexes[entry.Key]; re != nil && re.MatchString(key) {
			return true
		}
	}
	return false
}
