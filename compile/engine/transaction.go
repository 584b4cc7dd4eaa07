package engine

import (
	"net/netip"
	"strings"

	"smtpd/compile"
)

// local is what a rule sees in place of an address when the mail comes from
// the local socket or out of an expansion.
const local = "local"

// A Part is a criterion of a rule. The values are in order of evaluation.
type Part uint8

// The parts of a rule.
const (
	PartTag Part = iota
	PartFrom
	PartFor
	PartHelo
	PartAuth
	PartTLS
	PartMailFrom
	PartRcptTo
	numParts
)

var partNames = [numParts]string{"tag", "from", "for", "helo", "auth", "tls", "mail-from", "rcpt-to"}

// String returns the keyword of p.
func (p Part) String() string { return partNames[p] }

// An Answer is what is known of a criterion without asking a table.
type Answer uint8

// The answers. They are those before the sign of the criterion is applied.
const (
	Ask   Answer = iota // the table has to say
	No                  // the criterion does not hold
	Yes                 // the criterion holds
	Never               // it has no answer here: neither it nor its negation holds
)

// A Question is a criterion of a rule put to one transaction.
type Question struct {
	Part    Part
	Sign    compile.Sign // compile.Absent: the rule does not ask
	Answer  Answer
	Table   compile.TableID // for Ask
	Service Service         // for Ask
	Key     string          // for Ask; not folded
}

// A Questions is all that a rule asks, indexed by Part.
type Questions [numParts]Question

// Ask puts rule r to the transaction.
func (tx *Transaction) Ask(r *compile.Rule) Questions {
	var q Questions
	for p := range q {
		q[p] = tx.AskPart(r, Part(p))
	}
	return q
}

// AskPart puts one criterion of rule r to the transaction. This is the one
// place that says which text of a transaction a criterion looks at.
func (tx *Transaction) AskPart(r *compile.Rule, p Part) Question {
	var q Question
	switch p {
	case PartTag:
		q = ask(r.Tag, String, tx.Tag)
	case PartFrom:
		q = tx.askFrom(&r.From)
	case PartFor:
		q = ask(r.For.Criterion, Domain, tx.Rcpt.Domain)
	case PartHelo:
		q = ask(r.Helo, Domain, tx.Helo)
	case PartAuth:
		q = tx.askAuth(r.Auth)
	case PartTLS:
		q = Question{Sign: r.TLS.Sign, Answer: yesNo(tx.TLS)}
	case PartMailFrom:
		q = askAddress(r.MailFrom, tx.Sender)
	case PartRcptTo:
		q = askAddress(r.RcptTo, tx.Rcpt)
	}
	q.Part = p
	return q
}

func askAddress(c compile.Criterion, a Address) Question {
	if c.Sign == compile.Absent {
		return Question{}
	}
	return ask(c, MailAddr, a.String())
}

func ask(c compile.Criterion, s Service, key string) Question {
	if c.Regex {
		s = Regex
	}
	return Question{Sign: c.Sign, Table: c.Table, Service: s, Key: key}
}

func yesNo(b bool) Answer {
	if b {
		return Yes
	}
	return No
}

func (tx *Transaction) askFrom(f *compile.From) Question {
	known := Question{Sign: f.Sign}
	switch {
	case tx.Kind == FromInternal:
		// A from without a table has nothing to find "local" in.
		if f.Table == 0 {
			known.Answer = Never
			return known
		}
		return ask(f.Criterion, NetAddr, local)
	case f.Kind == compile.FromSocket:
		known.Answer = yesNo(tx.Kind == FromSocket)
		return known
	case f.Kind != compile.FromRDNS:
		return ask(f.Criterion, NetAddr, tx.SourceKey())
	case f.Table == 0:
		known.Answer = yesNo(tx.RDNS != "")
		return known
	case tx.RDNS == "":
		known.Answer = Never
		return known
	}
	return ask(f.Criterion, NetAddr, tx.RDNS)
}

func (tx *Transaction) askAuth(c compile.Criterion) Question {
	if !tx.Auth || c.Table == 0 {
		return Question{Sign: c.Sign, Answer: yesNo(tx.Auth)}
	}
	if strings.Contains(tx.User, "@") {
		return ask(c, MailAddr, tx.User)
	}
	return ask(c, String, tx.User)
}

// SourceKey returns the text that "from src" compares: an address as it
// would stand in a rule, IPv6 in brackets, or the word local.
func (tx *Transaction) SourceKey() string {
	if tx.Kind != FromAddress {
		return local
	}
	return string(tx.appendSource(nil))
}

func (tx *Transaction) appendSource(b []byte) []byte {
	addr := tx.source()
	switch {
	case !addr.IsValid():
		return b
	case addr.Is4():
		return addr.AppendTo(b)
	}
	return append(addr.AppendTo(append(b, '[')), ']')
}

func (a Address) appendTo(b []byte) []byte {
	return append(append(append(b, a.User...), '@'), a.Domain...)
}

// source returns the client's address in its one canonical form: an IPv4
// address stays one inside IPv6, and the zone of a link-local address is a
// matter of this host's interfaces that no rule can name.
func (tx *Transaction) source() netip.Addr { return tx.Addr.Unmap().WithZone("") }
