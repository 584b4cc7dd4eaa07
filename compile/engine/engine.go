// Package engine decides: given a rule table, a transaction and answers to
// lookups it names the rule that applies. It is pure; the daemon, explain,
// the policy tests and the proofs all call it, so they can never disagree.
package engine

import (
	"context"
	"net/netip"

	"smtpd/compile"
)

// A SourceKind says where a transaction comes from.
type SourceKind uint8

// The kinds of sources.
const (
	FromAddress  SourceKind = iota + 1 // a TCP client
	FromSocket                         // the local submission socket
	FromInternal                       // an address that came out of an expansion
)

// An Address is a mail address. The null sender has neither part.
type Address struct {
	User, Domain string
}

// String returns user@domain, and "@" for the null sender.
func (a Address) String() string { return a.User + "@" + a.Domain }

// A Transaction is all that a rule can ask about one recipient of one mail.
type Transaction struct {
	Kind   SourceKind
	Addr   netip.Addr // of the client, for FromAddress
	Tag    string     // of the listener
	Auth   bool       // authenticated; true for the local socket
	User   string     // the authenticated user; empty for the local socket
	TLS    bool
	Helo   string
	RDNS   string // reverse name; "" when there is none
	Sender Address
	Rcpt   Address
}

// A Service is what a table is asked for.
type Service uint16

// The services of tables; the bits are those of the helper protocols.
const (
	Alias       Service = 0x001
	Domain      Service = 0x002
	Credentials Service = 0x004
	NetAddr     Service = 0x008
	UserInfo    Service = 0x010
	Source      Service = 0x020
	MailAddr    Service = 0x040
	AddrName    Service = 0x080
	MailAddrMap Service = 0x100
	RelayHost   Service = 0x200
	String      Service = 0x400
	Regex       Service = 0x800
	Auth        Service = 0x1000
)

// Lookups answers for tables that are not constants of the Ruleset. An error
// means that the table could not say.
type Lookups interface {
	Check(ctx context.Context, table compile.TableID, s Service, key string) (bool, error)
}

// An Outcome is the kind of a Decision.
type Outcome uint8

// The outcomes.
const (
	Accept   Outcome = iota + 1 // Rule's action applies
	Reject                      // Rule says reject
	NoRule                      // no rule matched: refused as well
	TempFail                    // a lookup failed
)

// A Decision is what the rule table says of a transaction.
type Decision struct {
	Outcome Outcome
	Rule    int   // index into Ruleset.Rules, -1 for NoRule
	Err     error // of TempFail
}

// An Engine decides transactions by one Ruleset. It is safe for concurrent
// use.
type Engine interface {
	Decide(ctx context.Context, tx *Transaction, l Lookups) Decision
}
