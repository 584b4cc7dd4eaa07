package analyze

import (
	"strconv"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// Would says under which condition a rule would match that only q keeps from
// it, to follow the word if: "authenticated", "the sender were in <staff>".
func Would(rs *compile.Ruleset, r *compile.Rule, q engine.Question) string {
	not := ""
	if q.Sign == compile.Not {
		not = "not "
	}
	switch q.Part {
	case engine.PartTLS:
		return whether(not, "the session used TLS", "the session did not use TLS")
	case engine.PartAuth:
		if q.Table == 0 {
			return not + "authenticated"
		}
		return wouldMatch(rs, "the user were ", not, r.Auth)
	case engine.PartFrom:
		return wouldComeFrom(rs, not, &r.From)
	case engine.PartFor:
		if r.For.Kind == compile.ForLocal {
			return "the domain were " + not + "a local one"
		}
		return wouldMatch(rs, "the domain were ", not, r.For.Criterion)
	}
	return wouldMatch(rs, map[engine.Part]string{
		engine.PartTag: "the tag were ", engine.PartHelo: "the HELO name were ",
		engine.PartMailFrom: "the sender were ", engine.PartRcptTo: "the recipient were ",
	}[q.Part], not, criterion(r, q.Part))
}

func wouldComeFrom(rs *compile.Ruleset, not string, f *compile.From) string {
	switch f.Kind {
	case compile.FromLocal:
		return whether(not, "the mail came from this host", "the mail did not come from this host")
	case compile.FromSocket:
		return whether(not, "the mail came from the local socket", "the mail did not come from the local socket")
	case compile.FromRDNS:
		if f.Table == 0 {
			return whether(not, "the client had a reverse name", "the client had no reverse name")
		}
		return wouldMatch(rs, "the reverse name were ", not, f.Criterion)
	}
	return wouldMatch(rs, "the source were ", not, f.Criterion)
}

// whether returns one of two texts; not is empty for the first.
func whether(not, is, isNot string) string {
	if not == "" {
		return is
	}
	return isNot
}

func wouldMatch(rs *compile.Ruleset, subject, not string, c compile.Criterion) string {
	verb := "in "
	if c.Regex {
		verb = "matched by "
	}
	return subject + not + verb + tableText(rs.Table(c.Table))
}

// Value returns, for a reader, what of a transaction a criterion looked at.
func Value(tx *engine.Transaction, r *compile.Rule, q engine.Question) string {
	switch q.Part {
	case engine.PartTLS:
		if tx.TLS {
			return "TLS"
		}
		return "no TLS"
	case engine.PartAuth:
		switch {
		case !tx.Auth:
			return "not authenticated"
		case tx.User == "":
			return "authenticated without a name"
		}
		return strconv.Quote(tx.User)
	case engine.PartFrom:
		return sourceValue(tx, r)
	}
	if q.Key == "" {
		return "empty"
	}
	return strconv.Quote(q.Key)
}

func sourceValue(tx *engine.Transaction, r *compile.Rule) string {
	switch {
	case tx.Kind == engine.FromInternal:
		return "out of an expansion"
	case r.From.Kind == compile.FromRDNS && tx.RDNS == "":
		return "no reverse name"
	case r.From.Kind == compile.FromRDNS:
		return strconv.Quote(tx.RDNS)
	case tx.Kind == engine.FromSocket:
		return "the local socket"
	}
	return tx.SourceKey()
}
