package queue

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"smtpd/runtime/envelope"
)

// A judge says what follows from the end of a try. It decides and logs; it
// stores nothing.
type judge struct {
	ages   []time.Duration // at which a delay is reported
	life   time.Duration   // of reports
	server string          // name of this host
	log    *slog.Logger
	id     func(envelope.MessageID) (envelope.ID, error) // a free one
}

// bounceGather is how long a report waits for more to report of its message.
const bounceGather = time.Second

// expired are the words that every list and report has for it.
const expired = "Envelope expired"

// settle adds to c what becomes of ev after r.
func (j *judge) settle(c *Changes, ev *envelope.Envelope, r *Result, now time.Time) error {
	done := *ev
	done.LastTry, done.Status, done.Remote = now, r.Status, r.Remote
	done.Error = r.Text[:min(len(r.Text), maxText)]
	done.Tries++
	countTry(ev, r.Outcome)
	switch r.Outcome {
	case Delivered:
		return j.delivered(c, &done, r, now)
	case TempFail:
		return j.deferred(c, &done, now)
	case Loop:
		done.Status = "5.4.6" // RFC 3463, section 3.5: routing loop detected
	}
	return j.failed(c, &done, now)
}

func (j *judge) delivered(c *Changes, ev *envelope.Envelope, r *Result, now time.Time) error {
	c.Remove = append(c.Remove, ev.ID)
	if ev.Notify&envelope.NotifySuccess == 0 || ev.Notify&envelope.NotifyNever != 0 {
		return nil
	}
	kind := envelope.Delivered
	if ev.Type == envelope.MTA {
		if r.DSN {
			return nil // that host reports (RFC 3461, section 6.2.2)
		}
		kind = envelope.Relayed
	}
	ev.Status = "2.0.0"
	return j.report(c, ev, kind, 0, now)
}

func (j *judge) deferred(c *Changes, ev *envelope.Envelope, now time.Time) error {
	if ev.Status == "" {
		ev.Status = "4.0.0"
	}
	ev.NextTry = nextTry(ev.Type, ev.Created, ev.Tries, now)
	var err error
	if age, ok := delayNotice(ev, j.ages); ok && ev.Type != envelope.Bounce {
		if wants(ev, envelope.NotifyDelay) && !ev.Sender.IsNull() {
			err = j.report(c, ev, envelope.Delayed, age, now)
		}
		// A notice may come before its age has passed, when the next try
		// is after it. It counts for the whole age, or the try between
		// would bring a second one.
		ev.LastBounce = ev.Created.Add(age)
		if now.After(ev.LastBounce) {
			ev.LastBounce = now
		}
	}
	c.Put = append(c.Put, *ev)
	return err
}

// failed removes ev and reports it.
func (j *judge) failed(c *Changes, ev *envelope.Envelope, now time.Time) error {
	c.Remove = append(c.Remove, ev.ID)
	if ev.Status == "" {
		ev.Status = "5.0.0"
		if ev.Type == envelope.MDA {
			ev.Status = "5.3.0"
		}
	}
	switch {
	case ev.Type == envelope.Bounce:
		j.log.Warn("queue: double bounce!", "evpid", ev.ID, "to", ev.Sender, "stat", ev.Error)
		if ev.BounceKind != envelope.Failed || isPostmaster(ev.Sender) {
			return nil // what is late or delivered is no news to others
		}
		ev.Error = fmt.Sprintf("and %s cannot be told of it: %s", ev.Sender, ev.Error)
		return j.tellPostmaster(c, ev, now)
	case ev.Sender.IsNull() && ev.Flags&envelope.IsBounce != 0:
		j.log.Warn("queue: double bounce!", "evpid", ev.ID, "to", ev.Dest, "stat", ev.Error)
		if isPostmaster(ev.Rcpt) {
			return nil
		}
		return j.tellPostmaster(c, ev, now)
	case ev.Sender.IsNull():
		j.log.Warn("queue: no return path!", "evpid", ev.ID, "to", ev.Dest, "stat", ev.Error)
		return nil
	case !wants(ev, envelope.NotifyFailure):
		return nil
	}
	return j.report(c, ev, envelope.Failed, 0, now)
}

// tellPostmaster has a report go to the postmaster that cannot be brought to
// whom it was for. Nobody is told of one to the postmaster: that would not end.
func (j *judge) tellPostmaster(c *Changes, ev *envelope.Envelope, now time.Time) error {
	b := *ev
	b.Sender = envelope.Address{User: "postmaster", Domain: cmp.Or(ev.SMTPName, j.server)}
	b.Ret, b.EnvID, b.ORcpt = "", "", ""
	return j.report(c, &b, envelope.Failed, 0, now)
}

func isPostmaster(a envelope.Address) bool { return strings.EqualFold(a.User, "postmaster") }

// expire removes ev, whose lifetime is over, and reports it.
func (j *judge) expire(c *Changes, ev *envelope.Envelope, now time.Time) error {
	done := *ev
	done.Status, done.Error, done.Remote = "5.4.7", expired, "" // RFC 3463, section 3.5
	endings.WithLabelValues("expired").Inc()
	j.log.Info(carrierWord(ev)+": Expire", "evpid", ev.ID, "from", ev.Sender, "to", ev.Dest, "rcpt", rcptText(ev),
		"delay", envelope.FormatDelay(now.Sub(ev.Created)), "stat", expired)
	return j.failed(c, &done, now)
}

// giveBack removes ev, which an administrator returns to its sender.
func (j *judge) giveBack(c *Changes, ev *envelope.Envelope, now time.Time) error {
	done := *ev
	done.Status, done.Error, done.Remote = "", "Returned by administrator", ""
	endings.WithLabelValues("returned").Inc()
	j.log.Info(carrierWord(ev)+": Return", "evpid", ev.ID, "from", ev.Sender, "to", ev.Dest, "rcpt", rcptText(ev),
		"delay", envelope.FormatDelay(now.Sub(ev.Created)), "stat", done.Error)
	return j.failed(c, &done, now)
}

// carrierWord begins the log lines about an envelope that no agent has.
func carrierWord(ev *envelope.Envelope) string {
	if ev.Type == envelope.MTA {
		return "relay"
	}
	return "delivery"
}

// rcptText is the recipient that the client named, "-" if it is the
// destination.
func rcptText(ev *envelope.Envelope) string {
	if ev.Rcpt == ev.Dest {
		return "-"
	}
	return ev.Rcpt.String()
}

// wants reports whether the sender is to be told of n. Nothing asked for is
// the default of RFC 3461, section 4.1: failures and delays.
func wants(ev *envelope.Envelope, n envelope.Notify) bool {
	return ev.Notify == 0 || ev.Notify&n != 0 && ev.Notify&envelope.NotifyNever == 0
}

// report adds to c an envelope of the same message whose work is to tell the
// sender about ev.
func (j *judge) report(c *Changes, ev *envelope.Envelope, kind envelope.BounceKind, age time.Duration, now time.Time) error {
	if ev.Sender.IsNull() {
		return nil
	}
	b := *ev
	id, err := j.id(ev.ID.Message())
	if err != nil {
		return err
	}
	b.ID, b.Type = id, envelope.Bounce
	b.Flags &^= envelope.Suspended // what was held is given back, not its report
	b.BounceKind, b.BounceDelay = kind, age
	b.Arrival, b.Deadline = ev.Created, ev.Expires
	b.Created, b.Expires, b.NextTry = now, now.Add(j.life), now.Add(bounceGather)
	b.Tries, b.LastBounce = 0, time.Time{}
	c.Put = append(c.Put, b)
	reports.WithLabelValues(kindNames[kind]).Inc()
	inQueue.Inc()
	return nil
}
