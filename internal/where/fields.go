package where

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// A kind is what a field is compared with.
type kind uint8

const (
	words    kind = iota + 1 // one or several; one that fits is enough
	count                    // a number
	duration                 // seconds
	size                     // bytes
)

// A field is what an expression can ask of an envelope.
type field struct {
	kind   kind
	about  string
	always bool // known even of an envelope that cannot be read
	words  func(l *queue.Listed) []string
	number func(l *queue.Listed, now time.Time) int64
}

func text(about string, f func(ev *envelope.Envelope) string) *field {
	return &field{kind: words, about: about, words: func(l *queue.Listed) []string { return []string{f(&l.Envelope)} }}
}

func since(about string, f func(ev *envelope.Envelope, now time.Time) time.Duration) *field {
	return &field{kind: duration, about: about, number: func(l *queue.Listed, now time.Time) int64 {
		return int64(f(&l.Envelope, now) / time.Second)
	}}
}

// fields are what an expression can ask, by name.
var fields = map[string]*field{
	"id": {kind: words, about: "the envelope's 16 digits", always: true,
		words: func(l *queue.Listed) []string { return []string{l.Envelope.ID.String()} }},
	"message": {kind: words, about: "the message's 8 digits", always: true,
		words: func(l *queue.Listed) []string { return []string{l.Envelope.ID.Message().String()} }},
	"state": {kind: words, about: "pending, inflight, held (suspended) or invalid (it cannot be read)", always: true,
		words: func(l *queue.Listed) []string { return []string{State(l)} }},
	"type":   text("mda, mta or bounce (a report to be made)", func(ev *envelope.Envelope) string { return ev.Type.String() }),
	"action": text("the name of the action", func(ev *envelope.Envelope) string { return ev.Action }),
	"domain": text("the domain that it goes to", func(ev *envelope.Envelope) string { return ev.Dest.Domain }),
	"dest":   text("the recipient after expansion", func(ev *envelope.Envelope) string { return ev.Dest.String() }),
	"rcpt":   text("the recipient as the client named it", func(ev *envelope.Envelope) string { return ev.Rcpt.String() }),
	"sender": text(`the sender; "" for reports`, func(ev *envelope.Envelope) string { return ev.Sender.String() }),
	"user":   text("who was authenticated", func(ev *envelope.Envelope) string { return ev.User }),
	"source": text("the client's address, or local", func(ev *envelope.Envelope) string { return strings.Trim(ev.Source, "[]") }),
	"helo":   text("the name that the client gave", func(ev *envelope.Envelope) string { return ev.Helo }),
	"tag":    text("the tag of the listener", func(ev *envelope.Envelope) string { return ev.Tag }),
	"error":  text("how the last try ended", func(ev *envelope.Envelope) string { return ev.Error }),
	"status": text("its enhanced code, 4.4.1", func(ev *envelope.Envelope) string { return ev.Status }),
	"flag": {kind: words, about: "bounce, auth, internal, suspend, smtputf8 or requiretls",
		words: func(l *queue.Listed) []string { return l.Envelope.Flags.Words() }},
	"why": {kind: words, about: "what it waits for, as show why says it; empty if for the time of its next try",
		words: func(l *queue.Listed) []string { return []string{l.Why} }},
	"tries": {kind: count, about: "how often it was tried",
		number: func(l *queue.Listed, _ time.Time) int64 { return int64(l.Envelope.Tries) }},
	"size": {kind: size, about: "of the message: 4096, 20K, 5M",
		number: func(l *queue.Listed, _ time.Time) int64 { return l.Size }},
	"age": since("since it came: 90s, 30m, 1h30m, 2d", func(ev *envelope.Envelope, now time.Time) time.Duration {
		return now.Sub(ev.Created)
	}),
	"idle": since("since its last try, or since it came", func(ev *envelope.Envelope, now time.Time) time.Duration {
		if ev.LastTry.IsZero() {
			return now.Sub(ev.Created)
		}
		return now.Sub(ev.LastTry)
	}),
	"next":    since("until its next try; 0 when that is due", func(ev *envelope.Envelope, now time.Time) time.Duration { return max(ev.NextTry.Sub(now), 0) }),
	"expires": since("until it is given up", func(ev *envelope.Envelope, now time.Time) time.Duration { return max(ev.Expires.Sub(now), 0) }),
}

// Fields returns the names of the fields, sorted.
func Fields() []string { return slices.Sorted(maps.Keys(fields)) }

// About returns what a field is.
func About(name string) string { return fields[name].about }

// State returns the word for where an envelope is.
func State(l *queue.Listed) string {
	switch {
	case l.Error != "":
		return "invalid"
	case l.InFlight:
		return "inflight"
	case l.Envelope.Flags&envelope.Suspended != 0:
		return "held"
	}
	return "pending"
}

func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 63)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no number", s)
	}
	return n, nil
}

// parseSize reads a number of bytes.
func parseSize(s string) (int64, error) {
	units := map[byte]int{'K': 10, 'M': 20, 'G': 30}
	digits := strings.ToUpper(s)
	shift := 0
	if n := len(digits); n > 0 {
		if shift = units[digits[n-1]]; shift != 0 {
			digits = digits[:n-1]
		}
	}
	n, err := parseNumber(digits)
	if err != nil || n > 1<<62>>shift {
		return 0, fmt.Errorf("%q is no size: say 4096, 20K or 5M", s)
	}
	return n << shift, nil
}

// parseDuration reads a time such as 1d12h, and returns seconds.
func parseDuration(s string) (total int64, err error) {
	bad := fmt.Errorf("%q is no time: say 90s, 30m, 1h30m or 2d", s)
	units := map[byte]int64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400}
	rest := cmp.Or(s, "?")
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 {
			return 0, bad
		}
		n, err := parseNumber(rest[:i])
		unit := units[rest[i]|0x20]
		if err != nil || unit == 0 || n > 1<<40/unit {
			return 0, bad
		}
		total, rest = total+n*unit, rest[i+1:]
	}
	return total, nil
}
