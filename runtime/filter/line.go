package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// version is that of the protocol.
const version = "0.7"

// events are those that a program can register for, and phases the moments at
// which it can be asked.
var (
	events = []string{
		"link-connect", "link-greeting", "link-identify", "link-tls", "link-auth", "link-disconnect",
		"tx-reset", "tx-begin", "tx-mail", "tx-rcpt", "tx-envelope", "tx-data", "tx-commit", "tx-rollback",
		"protocol-client", "protocol-server", "filter-response", "filter-report", "timeout",
	}
	phases = []string{
		"connect", "helo", "ehlo", "starttls", "auth", "mail-from", "rcpt-to", "data", "data-line", "commit",
		"rset", "quit", "noop", "help", "wiz",
	}
)

// DataLine is the phase in which a program gets the message.
const DataLine = "data-line"

// A Direction tells sessions apart: those with clients, and those with the
// hosts that mail is relayed to. Programs hear of both, and are asked about
// the first.
type Direction uint8

// The directions.
const (
	In Direction = iota + 1
	Out
)

// String returns the word of the protocol.
func (d Direction) String() string {
	if d == Out {
		return "smtp-out"
	}
	return "smtp-in"
}

// An Event is something that happened in a session.
type Event struct {
	At   time.Time
	Name string // "tx-mail"
	Text string // the fields behind the session, joined by bars; "" if none
}

// clean returns s so that it is part of one line.
func clean(s string) string {
	if !strings.ContainsAny(s, "\r\n\x00") {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == 0 {
			return '?'
		}
		return r
	}, s)
}

func appendStamp(b []byte, t time.Time) []byte {
	return fmt.Appendf(b, "%d.%06d", t.Unix(), t.Nanosecond()/1000)
}

// appendReport appends the line that tells a program of e.
func appendReport(b []byte, d Direction, session uint64, e *Event) []byte {
	b = append(b, "report|"+version+"|"...)
	b = appendStamp(b, e.At)
	b = append(append(append(append(b, '|'), d.String()...), '|'), e.Name...)
	b = appendHex(append(b, '|'), session)
	if e.Text != "" {
		b = append(append(b, '|'), clean(e.Text)...)
	}
	return append(b, '\n')
}

// appendHex appends the 16 digits of an id.
func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}

// appendRequest appends the line that asks a program; param is one line.
func appendRequest(b []byte, now time.Time, phase string, session, token uint64, param string) []byte {
	b = append(b, "filter|"+version+"|"...)
	b = appendStamp(b, now)
	b = append(append(append(b, "|smtp-in|"...), phase...), '|')
	b = append(appendHex(b, session), '|')
	b = append(appendHex(b, token), '|')
	return append(append(b, param...), '\n')
}

// A Registration is what a program wants to hear of and be asked about.
type Registration struct {
	Events    []string // of sessions with clients
	OutEvents []string // of sessions with other hosts
	Phases    []string
}

// In returns the events that the program registered for.
func (r *Registration) In(d Direction) []string {
	if d == Out {
		return r.OutEvents
	}
	return r.Events
}

// Filters reports whether the program registered for a phase.
func (r *Registration) Filters(phase string) bool { return slices.Contains(r.Phases, phase) }

// register takes one line of the handshake. done says that it was the last.
func (r *Registration) register(line string) (done bool, err error) {
	bad := fmt.Errorf("%q: %w", clip(line), ErrProtocol)
	word, rest, ok := strings.Cut(line, "|")
	switch {
	case !ok || word != "register":
		return false, bad
	case rest == "ready":
		return true, nil
	}
	kind, rest, _ := strings.Cut(rest, "|")
	direction, name, _ := strings.Cut(rest, "|")
	switch {
	case kind == "report" && direction == "smtp-in":
		return false, listen(&r.Events, name, bad)
	case kind == "report" && direction == "smtp-out":
		return false, listen(&r.OutEvents, name, bad)
	case kind == "filter" && direction == "smtp-in" && slices.Contains(phases, name):
		r.Phases = append(r.Phases, name)
		return false, nil
	}
	return false, bad
}

// listen adds an event, or all, to l.
func listen(l *[]string, name string, bad error) error {
	switch {
	case name == "*":
		*l = append(*l, events...)
	case slices.Contains(events, name):
		*l = append(*l, name)
	default:
		return bad
	}
	return nil
}

// A Decision is what a program says when it is asked.
type Decision uint8

// The decisions.
const (
	Proceed Decision = iota + 1
	Junk
	Reject
	Disconnect
	Rewrite
	Report
)

var decisionNames = [...]string{
	Proceed: "proceed", Junk: "junk", Reject: "reject", Disconnect: "disconnect", Rewrite: "rewrite", Report: "report",
}

// String returns the word of the protocol.
func (d Decision) String() string { return decisionNames[d] }

// An Answer is a decision with its parameter: a reply for Reject and
// Disconnect, a text for Rewrite and Report.
type Answer struct {
	Decision Decision
	Text     string
}

// A result is an answer line: of a request, or, with data, of the message.
type result struct {
	session, token uint64
	data           bool
	line           string // of the message
	answer         Answer
}

// parseResult reads a line of a program that is at work. ok is false for a
// line that says nothing to us.
func parseResult(line string) (r result, ok bool, err error) {
	bad := fmt.Errorf("%q: %w", clip(line), ErrProtocol)
	kind, rest, _ := strings.Cut(line, "|")
	if kind == "report" {
		return r, false, nil
	}
	session, rest, ok1 := strings.Cut(rest, "|")
	token, rest, ok2 := strings.Cut(rest, "|")
	var err1, err2 error
	r.session, err1 = strconv.ParseUint(session, 16, 64)
	r.token, err2 = strconv.ParseUint(token, 16, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil {
		return r, false, bad
	}
	switch kind {
	case "filter-dataline":
		r.data, r.line = true, rest
		return r, true, nil
	case "filter-result":
		word, text, has := strings.Cut(rest, "|")
		d := slices.Index(decisionNames[:], word)
		r.answer = Answer{Decision(max(d, 0)), text}
		if d < int(Proceed) || has != (r.answer.Decision > Junk) {
			return r, false, bad
		}
		return r, true, nil
	}
	return r, false, bad
}

// clip shortens text for a message.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
