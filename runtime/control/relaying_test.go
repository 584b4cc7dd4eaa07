package control

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/runtime/imsg"
	"smtpd/runtime/mta"
	"smtpd/runtime/queue"
	"smtpd/runtime/smtp"
)

// startMTA runs mta with nothing to do, and returns the ends of its links that
// control and the queue have.
func startMTA(t *testing.T) (control, queue imsg.Conn) {
	c := mta.Config{Rules: &compile.Ruleset{ServerName: "mx.example"}, Log: slog.New(slog.DiscardHandler)}
	c.Queue, queue = imsg.Pipe()
	c.LKA, _ = imsg.Pipe()
	c.Control, control = imsg.Pipe()
	done := make(chan error)
	go func() { done <- mta.Main(t.Context(), c) }()
	t.Cleanup(func() {
		queue.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return control, queue
}

// TestRelaying gives mta an order, shows what it says, and brings another mta:
// what was stopped stays so.
func TestRelaying(t *testing.T) {
	r := newRig(t)
	c := dial(t, r.admin)
	pause := mta.Order{Verb: mta.Pause, Source: "192.0.2.1", Domain: "a.example"}
	for _, want := range []bool{true, false} {
		if changed, err := c.Relaying(pause, io.Discard); err != nil || changed != want {
			t.Errorf("pause: %v, %v, want %v", changed, err, want)
		}
	}
	pause.Source, pause.Domain = "::1", "b.example"
	if _, err := c.Relaying(pause, io.Discard); err != nil {
		t.Error(err)
	}
	var refusal Refusal
	if _, err := c.Relaying(mta.Order{Verb: mta.Pause, Source: "here"}, io.Discard); !errors.As(err, &refusal) {
		t.Errorf("an order that makes no sense: %v", err)
	}

	var u Update
	s := smtp.Config{Rules: &compile.Ruleset{}, Log: slog.New(slog.DiscardHandler)}
	u.SMTP, s.Control = imsg.Pipe()
	u.LKA, _ = imsg.Pipe()
	q := queue.Update{Rules: &compile.Ruleset{}, Done: func() {}}
	u.MTA, q.MTA = startMTA(t)
	r.queueUpdates <- q
	u.MFA, _ = imsg.Pipe()
	inForce := make(chan struct{})
	u.Done = func() { close(inForce) }
	r.updates <- u
	<-inForce
	var text strings.Builder
	if _, err := c.Relaying(mta.Order{Verb: mta.ShowPaused}, &text); err != nil || text.String() != "192.0.2.1 -> a.example\n::1 -> b.example\n" {
		t.Errorf("after a reload: %q, %v", text.String(), err)
	}
}
