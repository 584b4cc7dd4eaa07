package queue

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/runtime/envelope"
)

// killer has the agent die of each message for a user called killer.
func (f *fixture) killer() {
	f.set(func(ev *envelope.Envelope) (Result, error) {
		if ev.Dest.User == "killer" {
			f.killMTA()
		}
		return Result{Outcome: Delivered}, nil
	})
}

// TestQuarantine checks that a message which its agent dies of is set aside at
// the second death, with the reason, and comes back when it is resumed.
func TestQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.killer()
		msg := f.send("hello\n", to("killer@one.example"))
		f.wait(time.Hour)
		if got := f.seen(); len(got) != 2 || got[1].At != suspectPause {
			t.Errorf("tries %v, want two", got)
		}
		ev := list(t, f.store)[0]
		if ev.Flags&envelope.Suspended == 0 || ev.Error != "quarantined: mta died 2 times with this message" || ev.Tries != 0 {
			t.Errorf("flags %b, tries %d, %q", ev.Flags, ev.Tries, ev.Error)
		}
		if !strings.Contains(f.log.String(), "message is quarantined") {
			t.Errorf("log %s", f.log)
		}
		f.send("hello\n", to("other@one.example"))
		f.wait(0)
		if got := f.seen(); len(got) != 1 || got[0].Rcpt != "other@one.example" {
			t.Errorf("after that: %v", got)
		}

		f.set(ok)
		if _, err := f.ctl.Manage(t.Context(), Resume, Selection{Message: msg}); err != nil {
			t.Fatal(err)
		}
		f.wait(0)
		f.empty()
	})
}

// TestSuspects checks that of many messages which an agent had when it died
// only that is set aside which it dies of again.
func TestSuspects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.hold = make(chan struct{})
		for i := range 5 {
			f.send("hello\n", to(fmt.Sprintf("u%d@d%d.example", i, i)))
		}
		f.send("hello\n", to("killer@dead.example"))
		f.wait(0)
		f.hold = nil
		f.killer()
		f.killMTA()
		f.wait(time.Minute)
		l := list(t, f.store)
		if len(l) != 1 || l[0].Dest.User != "killer" || l[0].Flags&envelope.Suspended == 0 {
			t.Errorf("left %v", l)
		}
	})
}

// TestSuspectPatience checks that a slow suspect does not keep others waiting
// for long.
func TestSuspectPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s suspects
		one, two := s.begin(envelope.MTA, 1), s.begin(envelope.MTA, 2)
		s.end(one, true)
		s.end(two, true)
		one = s.begin(envelope.MTA, 1)
		if s.begin(envelope.MTA, 2) != nil {
			t.Error("two are on trial")
		}
		if h := s.begin(envelope.MTA, 3); h == nil || h.onTrial {
			t.Error("one that is no suspect must wait")
		}
		time.Sleep(trialLimit)
		if s.begin(envelope.MTA, 2) == nil {
			t.Error("one that is slow keeps others waiting")
		}
		if n := s.end(one, false); n != 0 {
			t.Errorf("%d deaths after a good end", n)
		}
	})
}
