package lang

import (
	"fmt"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// misfit returns the complaint about what the grammar takes and the language
// does not: lists that mix strings with pairs, and conditions and decisions
// that a filter phase does not know. It is nil if there is none.
func misfit(st *ast.Stmt) *diag.Diagnostic {
	var found *diag.Diagnostic
	ast.Inspect(st, func(n any) bool {
		switch n := n.(type) {
		case *ast.List:
			found = mixed(n)
		case *ast.Filter:
			found = pairInChain(n.Chain)
		case *ast.FilterRef:
			found = pairInChain(n.Chain)
		case *ast.Phase:
			found = outOfPhase(n)
		}
		return found == nil
	})
	return found
}

// mixed finds the first element that is not of the kind of the first one.
func mixed(list *ast.List) *diag.Diagnostic {
	pairs := list.Elems[0].Value != nil
	for _, e := range list.Elems[1:] {
		if (e.Value != nil) == pairs {
			continue
		}
		d := &diag.Diagnostic{
			Span: token.Span{Start: e.Key.Pos, End: e.Key.EndPos},
			Code: "mixed-list",
			Notes: []diag.Note{{
				Span: token.Span{Start: list.Elems[0].Key.Pos, End: list.Elems[0].Key.EndPos},
			}},
		}
		if pairs {
			d.Message = fmt.Sprintf("`%s` has no value in a list of pairs", printable(e.Key.Text))
			d.Label = "expected `=` and a value after this"
			d.Notes[0].Message = "the first element is a pair"
		} else {
			d.Message = fmt.Sprintf("`%s` has a value in a list of strings", printable(e.Key.Text))
			d.Label = "expected a string alone"
			d.Notes[0].Message = "the first element is a string"
		}
		return d
	}
	return nil
}

// pairInChain finds the first pair in a list of filters.
func pairInChain(chain *ast.List) *diag.Diagnostic {
	if chain == nil {
		return nil
	}
	for _, e := range chain.Elems {
		if e.Value != nil {
			return &diag.Diagnostic{
				Span:    token.Span{Start: e.Key.Pos, End: e.Key.EndPos},
				Code:    "pair-in-chain",
				Message: fmt.Sprintf("filter `%s` has a value in a chain", printable(e.Key.Text)),
				Label:   "a chain is a list of the names of filters",
			}
		}
	}
	return nil
}

// phaseRule says what a phase knows besides fcrdns, rdns and src: in each
// phase what the client has said so far.
type phaseRule struct {
	helo, auth, mailFrom, rcptTo bool
	noJunk                       bool // nor bypass
}

var phaseRules = map[string]phaseRule{
	"connect":   {},
	"helo":      {helo: true},
	"ehlo":      {helo: true},
	"auth":      {helo: true, auth: true},
	"mail-from": {helo: true, auth: true, mailFrom: true},
	"rcpt-to":   {helo: true, auth: true, mailFrom: true, rcptTo: true},
	"data":      {helo: true, auth: true, mailFrom: true},
	"commit":    {helo: true, auth: true, mailFrom: true, noJunk: true},
}

// takes reports whether a filter of this phase may have the condition or the
// decision that keyword w begins.
func (r phaseRule) takes(w string) bool {
	switch w {
	case "helo":
		return r.helo
	case "auth":
		return r.auth
	case "mail-from":
		return r.mailFrom
	case "rcpt-to":
		return r.rcptTo
	case "junk", "bypass":
		return !r.noJunk
	}
	return true
}

// outOfPhase finds a condition or a decision that comes too early, or too
// late, for the phase.
func outOfPhase(ph *ast.Phase) *diag.Diagnostic {
	rule := phaseRules[ph.Name]
	complain := func(pos token.Pos, w, what string) *diag.Diagnostic {
		end := pos
		end.Column += len(w)
		end.Offset += len(w)
		return &diag.Diagnostic{
			Span:    token.Span{Start: pos, End: end},
			Code:    "filter-phase",
			Message: fmt.Sprintf("%s `%s` is not possible in phase `%s`", what, w, ph.Name),
		}
	}
	if w := conditionWord(ph.Condition); !rule.takes(w) {
		d := complain(ph.Condition.Pos, w, "condition")
		d.Label = "this is not known yet"
		if w == "rcpt-to" {
			d.Label = "this is known for one recipient only, in phase `rcpt-to`"
		}
		return d
	}
	if w := decisionWord(ph.Decision); !rule.takes(w) {
		d := complain(ph.Decision.Pos, w, "decision")
		d.Label = "expected `reject`, `disconnect`, `rewrite` or `report`"
		return d
	}
	return nil
}

func conditionWord(c *ast.Condition) string {
	switch {
	case c.Helo != nil:
		return "helo"
	case c.Auth != nil:
		return "auth"
	case c.MailFrom != nil:
		return "mail-from"
	case c.RcptTo != nil:
		return "rcpt-to"
	}
	return ""
}

func decisionWord(d *ast.Decision) string {
	switch {
	case d.Junk:
		return "junk"
	case d.Bypass:
		return "bypass"
	}
	return ""
}
