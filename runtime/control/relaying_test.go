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
	"smtpd/runtime/smtp"
)

// startMTA runs mta with nothing to do, and returns control's end of its link.
func startMTA(t *testing.T) imsg.Conn {
	c := mta.Config{Rules: &compile.Ruleset{ServerName: "mx.example"}, Log: slog.New(slog.DiscardHandler)}
	var queue, ours imsg.Conn
	c.Queue, queue = imsg.Pipe()
	c.LKA, _ = imsg.Pipe()
	c.Control, ours = imsg.Pipe()
	done := make(chan error)
	go func() { done <- mta.Main(t.Context(), c) }()
	t.Cleanup(func() {
		queue.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ours
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
	u.MTA = startMTA(t)
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
