// Package envelope owns the nouns of the runtime: the addresses, ids and the
// envelope that says from whom and to whom one copy of a message goes and how
// far it has got. Every component passes them on; their encoding travels in
// messages and is kept in the queue. Nothing here acts.
package envelope

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A MessageID names a message in the queue; never 0.
type MessageID uint32

// String returns 8 hexadecimal digits.
func (m MessageID) String() string { return fmt.Sprintf("%08x", uint32(m)) }

// An ID names an envelope: its upper half is the id of its message.
type ID uint64

// Message returns the id of the message the envelope belongs to.
func (id ID) Message() MessageID { return MessageID(id >> 32) }

// String returns 16 hexadecimal digits.
func (id ID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// ParseID reads 16 hexadecimal digits.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("envelope id %q: want 16 hexadecimal digits", s)
	}
	return ID(n), nil
}

// ParseMessageID reads 8 hexadecimal digits.
func ParseMessageID(s string) (MessageID, error) {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) != 8 {
		return 0, fmt.Errorf("message id %q: want 8 hexadecimal digits", s)
	}
	return MessageID(n), nil
}

// An Address is a mail address, as it came but for a source route. The null
// sender has neither part.
type Address struct {
	User, Domain string
}

// IsNull reports whether a is the null sender.
func (a Address) IsNull() bool { return a.User == "" && a.Domain == "" }

// String returns user@domain, and "" for the null sender.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	return a.User + "@" + a.Domain
}

// ParseAddress splits s at its last @. It judges nothing.
func ParseAddress(s string) Address {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return Address{s[:i], s[i+1:]}
	}
	return Address{User: s}
}

// A Type says who carries an envelope on.
type Type uint8

// The types.
const (
	MDA    Type = iota + 1 // local delivery
	MTA                    // remote delivery
	Bounce                 // a report to be made about it
)

var typeNames = [...]string{"?", "mda", "mta", "bounce"}

// String returns the word that lists of the queue show.
func (t Type) String() string { return typeNames[t] }

// Flags of an envelope.
type Flags uint8

// The flags.
const (
	Authenticated Flags = 1 << iota
	Internal            // its address came out of an expansion
	IsBounce            // it carries a report
	Suspended
	Junk
	SMTPUTF8   // the sender said so (RFC 6531): addresses and header may be UTF-8
	RequireTLS // the sender said so (RFC 8689): no hop without verified TLS
)

// Words returns the words of the flags that lists of the queue show.
func (f Flags) Words() []string {
	var words []string
	for _, w := range [...]struct {
		flag Flags
		word string
	}{
		{IsBounce, "bounce"}, {Authenticated, "auth"}, {Internal, "internal"}, {Suspended, "suspend"},
		{SMTPUTF8, "smtputf8"}, {RequireTLS, "requiretls"},
	} {
		if f&w.flag != 0 {
			words = append(words, w.word)
		}
	}
	return words
}

// Notify is the set of reports that a sender asked for (RFC 3461, section 4.1).
type Notify uint8

// The reports; 0 is the default: failure and delay.
const (
	NotifySuccess Notify = 1 << iota
	NotifyFailure
	NotifyDelay
	NotifyNever
)

// A BounceKind is what a report says.
type BounceKind uint8

// The kinds of reports.
const (
	Failed BounceKind = iota + 1
	Delayed
	Delivered
	Relayed // handed to a host that does not report success
)

// An Execute says what a local delivery runs when it is not the action's own
// method.
type Execute uint8

// What a local delivery runs.
const (
	ByAction Execute = iota // the action's method
	Command                 // a command of an alias or .forward
	File                    // an mbox file of an alias or .forward
)

// An Envelope is one copy of a message on its way to one destination.
type Envelope struct {
	ID     ID
	Type   Type
	Flags  Flags
	Action string // name of the action in the configuration
	Tag    string // of the listener

	SMTPName string // server name shown to the client
	Helo     string // the client's HELO or EHLO argument
	RDNS     string // the client's reverse name, "" if it has none
	Source   string // the client: "local", an address; IPv6 in brackets
	User     string // the authenticated user

	Sender Address
	Rcpt   Address // as given by the client
	Dest   Address // after expansion

	Created    time.Time
	Expires    time.Time // creation plus the lifetime in force when it was queued
	LastTry    time.Time // zero before the first
	LastBounce time.Time // of the last delay report
	NextTry    time.Time
	Tries      uint32

	Notify Notify
	Ret    string // "", "FULL" or "HDRS"
	EnvID  string
	ORcpt  string // type;value

	Error  string // text of the last failure
	Status string // its enhanced code, "4.4.1"
	Remote string // the host that said so, for reports

	// Local delivery.
	LocalUser  string
	SubAddress string
	Execute    Execute
	Exec       string // command or path, for Execute

	// A report. Created and Expires are its own; those of the envelope that
	// it is about are here.
	BounceKind  BounceKind
	BounceDelay time.Duration
	Arrival     time.Time
	Deadline    time.Time
}
