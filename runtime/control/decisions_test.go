package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/mfa"
)

// explained is what the mfa of tests has decided, as the rules before the one
// that decided filled more than a frame.
func explained() *mfa.Explanation {
	e := &mfa.Explanation{
		Decided: mfa.Decided{
			Number: 3, At: time.Unix(1e9, 0), Source: "192.0.2.1", Helo: "h", Sender: envelope.Address{User: "a", Domain: "b"},
			Rcpt: envelope.Address{User: "c", Domain: "d"}, Outcome: engine.Reject, Rule: mfa.RuleName{Label: "l", Text: "match"},
		},
		More: 4, Changed: true,
	}
	for range 40 {
		e.Passed = append(e.Passed, mfa.Passed{Rule: mfa.RuleName{Text: strings.Repeat("r", 1000)}, Criterion: "tls", Value: "no TLS"})
	}
	return e
}

// startMFA returns a connection to an mfa that remembers one decision.
func startMFA(t *testing.T) imsg.Conn {
	ours, theirs := imsg.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		imsg.NewPeer(theirs, func(_ context.Context, m imsg.Message) (imsg.Message, error) {
			switch e := explained(); {
			case len(m.Data) == 0:
				return imsg.Message{Data: e.Decided.Append(nil)}, nil
			case string(m.Data) == string(imsg.AppendUint64(nil, 3)):
				return imsg.Message{Data: e.Append(nil)}, nil
			}
			return imsg.Message{}, errors.New("not remembered")
		}).Run(context.WithoutCancel(t.Context()))
	}()
	t.Cleanup(func() { ours.Close(); <-ended })
	return ours
}

// TestDecisions checks that the last decisions come through the socket, and
// why one was made, however many rules there are.
func TestDecisions(t *testing.T) {
	r := newRig(t)
	c := dial(t, r.admin)
	sameTime := cmp.Comparer(time.Time.Equal)
	l, err := c.Recent()
	if err != nil {
		t.Fatal(err)
	}
	want := explained()
	if diff := cmp.Diff([]mfa.Decided{want.Decided}, l, sameTime); diff != "" {
		t.Error(diff)
	}
	got, err := c.Explain(3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, sameTime); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Explain(4); err == nil || !errors.As(err, new(Refusal)) || !strings.Contains(err.Error(), "not remembered") {
		t.Errorf("a decision that is not there: %v", err)
	}
	if _, err := dial(t, r.submission).Recent(); err == nil {
		t.Error("a user was told")
	}
}
