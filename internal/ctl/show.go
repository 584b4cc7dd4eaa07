package ctl

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// queueLine returns the line of an envelope in a list of the queue: fields
// between vertical bars, in the order that OpenSMTPD gives them.
func queueLine(l *queue.Listed) string {
	ev := &l.Envelope
	if l.Error != "" {
		return fmt.Sprintf("%v|?|?||||||||0|invalid||%s\n", ev.ID, field(l.Error))
	}
	state, seconds := stateOf(l)
	return strings.Join([]string{
		ev.ID.String(), family(ev.Source), ev.Type.String(), strings.Join(ev.Flags.Words(), ","),
		cmp.Or(field(ev.Sender.String()), "@"), field(ev.Rcpt.String()), field(ev.Dest.String()),
		unixTime(ev.Created), unixTime(ev.Expires), unixTime(ev.LastTry), strconv.Itoa(int(ev.Tries)),
		state, seconds, field(ev.Error),
	}, "|") + "\n"
}

// field returns s so that it stays one field of one line, whatever a remote
// host chose it to be.
func field(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '|' {
			return '?'
		}
		return r
	}, s)
}

// stateOf returns the state of an envelope and the seconds that go with it:
// until its next try, or since it began.
func stateOf(l *queue.Listed) (state, seconds string) {
	ev := &l.Envelope
	switch {
	case l.InFlight:
		return "inflight", wholeSeconds(max(time.Since(ev.NextTry), 0))
	case ev.Flags&envelope.Suspended != 0:
		return "pending", ""
	}
	return "pending", wholeSeconds(time.Until(ev.NextTry))
}

// why says what an envelope waits for, and how its last try ended.
func why(l *queue.Listed) string {
	ev := &l.Envelope
	text := l.Why
	switch {
	case l.Error != "":
		return "it cannot be read: " + field(l.Error)
	case text == "":
		text = "its next try is at " + ev.NextTry.UTC().Format(time.RFC3339)
	}
	if ev.Error != "" {
		text += fmt.Sprintf("; try %d ended with %q", ev.Tries, field(ev.Error))
	}
	return text
}

func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64(d.Round(time.Second)/time.Second), 10)
}

// family returns how the message came in.
func family(source string) string {
	if source == "local" {
		return source
	}
	a, err := netip.ParseAddr(strings.Trim(source, "[]"))
	switch {
	case err != nil:
		return "?"
	case a.Is4():
		return "inet4"
	}
	return "inet6"
}

func unixTime(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// A jsonEnvelope is an envelope in JSON output. Times are absent when there
// is none.
type jsonEnvelope struct {
	ID         string     `json:"id"`
	Message    string     `json:"message"`
	Type       string     `json:"type,omitempty"`
	Action     string     `json:"action,omitempty"`
	Source     string     `json:"source,omitempty"`
	Helo       string     `json:"helo,omitempty"`
	Tag        string     `json:"tag,omitempty"`
	User       string     `json:"user,omitempty"`
	Flags      []string   `json:"flags"`
	Sender     string     `json:"sender"`
	Recipient  string     `json:"recipient"`
	Dest       string     `json:"destination"`
	Created    *time.Time `json:"created,omitempty"`
	Expires    *time.Time `json:"expires,omitempty"`
	LastTry    *time.Time `json:"last_try,omitempty"`
	NextTry    *time.Time `json:"next_try,omitempty"`
	Tries      uint32     `json:"tries"`
	State      string     `json:"state"`
	Why        string     `json:"why,omitempty"`
	Error      string     `json:"error,omitempty"`
	Unreadable string     `json:"unreadable,omitempty"`
}

func asJSON(l *queue.Listed) *jsonEnvelope {
	ev := &l.Envelope
	j := &jsonEnvelope{ID: ev.ID.String(), Message: ev.ID.Message().String(), Flags: []string{}}
	if l.Error != "" {
		j.State, j.Unreadable = "invalid", l.Error
		return j
	}
	j.Type, j.Action, j.Source, j.Helo, j.Tag, j.User = ev.Type.String(), ev.Action, ev.Source, ev.Helo, ev.Tag, ev.User
	j.Flags = append(j.Flags, ev.Flags.Words()...)
	j.Sender, j.Recipient, j.Dest = ev.Sender.String(), ev.Rcpt.String(), ev.Dest.String()
	j.Created, j.Expires, j.LastTry, j.NextTry = moment(ev.Created), moment(ev.Expires), moment(ev.LastTry), moment(ev.NextTry)
	j.Tries, j.Error = ev.Tries, ev.Error
	j.State, _ = stateOf(l)
	j.Why = l.Why
	return j
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// envelopeText returns an envelope as name: value lines under the names that
// OpenSMTPD's envelope files have; what is empty is left out.
func envelopeText(ev *envelope.Envelope) string {
	var b strings.Builder
	put := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, oneLine(value))
		}
	}
	number := func(name string, n uint64) {
		if n != 0 {
			put(name, strconv.FormatUint(n, 10))
		}
	}
	put("version", "3")
	put("dispatcher", ev.Action)
	put("tag", ev.Tag)
	put("type", ev.Type.String())
	put("smtpname", ev.SMTPName)
	put("helo", ev.Helo)
	put("hostname", ev.RDNS)
	put("username", ev.User)
	put("errorline", ev.Error)
	put("sockaddr", ev.Source)
	put("sender", cmp.Or(ev.Sender.String(), "@"))
	put("rcpt", ev.Rcpt.String())
	put("dest", ev.Dest.String())
	put("ctime", unixTime(ev.Created))
	put("last-try", unixTime(ev.LastTry))
	put("last-bounce", unixTime(ev.LastBounce))
	put("ttl", wholeSeconds(max(ev.Expires.Sub(ev.Created), 0)))
	put("retry", strconv.FormatUint(uint64(ev.Tries), 10))
	put("flags", strings.Join(ev.Flags.Words(), " "))
	put("dsn-notify", strconv.Itoa(int(ev.Notify)))
	put("dsn-ret", ev.Ret)
	put("dsn-envid", ev.EnvID)
	put("dsn-orcpt", ev.ORcpt)
	put("esc", ev.Status)
	if ev.Type == envelope.MDA {
		put("mda-exec", ev.Exec)
		put("mda-subaddress", ev.SubAddress)
		put("mda-user", ev.LocalUser)
	}
	if ev.Type == envelope.Bounce {
		put("bounce-type", map[envelope.BounceKind]string{
			envelope.Failed: "failed", envelope.Delayed: "delayed",
			envelope.Delivered: "delivered", envelope.Relayed: "delivered",
		}[ev.BounceKind])
		number("bounce-delay", uint64(ev.BounceDelay/time.Second))
	}
	return b.String()
}

// oneLine returns s without what could begin a line of its own, or tell a
// terminal what to do.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || 0x7f <= r && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
