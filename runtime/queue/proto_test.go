package queue

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// A payload is a message of the protocol.
type payload interface {
	append([]byte) []byte
}

// parsers read each kind of payload.
var parsers = map[string]func([]byte) (payload, error){
	"results":    func(b []byte) (payload, error) { var v results; err := v.parse(b); return v, err },
	"envelopes":  func(b []byte) (payload, error) { var v envelopes; err := v.parse(b); return v, err },
	"submission": func(b []byte) (payload, error) { var v submission; err := v.parse(b); return &v, err },
	"ids":        func(b []byte) (payload, error) { var v ids; err := v.parse(b); return v, err },
	"reference":  func(b []byte) (payload, error) { var v messageRef; err := v.parse(b); return v, err },
	"list":       func(b []byte) (payload, error) { var v listRequest; err := v.parse(b); return &v, err },
	"listing":    func(b []byte) (payload, error) { var v listing; err := v.parse(b); return v, err },
	"manage":     func(b []byte) (payload, error) { var v manageRequest; err := v.parse(b); return &v, err },
	"pause":      func(b []byte) (payload, error) { var v pauseRequest; err := v.parse(b); return &v, err },
	"piece":      func(b []byte) (payload, error) { var v contentPiece; err := v.parse(b); return &v, err },
	"commit":     func(b []byte) (payload, error) { var v commitRequest; err := v.parse(b); return &v, err },
	"report":     func(b []byte) (payload, error) { var v reportRequest; err := v.parse(b); return &v, err },
}

// golden holds a payload of each kind and its bytes on a little-endian
// machine.
var golden = map[string]struct {
	payload payload
	hex     string
}{
	"results": {
		results{{ID: 0x1_00000002, Outcome: PermFail, Status: "5.1.1", Text: "no", Remote: "mx", DSN: true}},
		"01000000" + "0200000001000000" + "03" + "05000000352e312e31" + "020000006e6f" + "020000006d78" + "01",
	},
	"ids":       {ids{0x1_00000002}, "01000000" + "0200000001000000"},
	"reference": {messageRef(7), "07000000"},
	"list":      {&listRequest{0x1_00000002, 3, true}, "0200000001000000" + "03000000" + "01"},
	"manage":    {&manageRequest{Suspend, Selection{Message: 7}}, "03" + "07000000" + "0000000000000000"},
	"commit":    {&commitRequest{7, true, []byte("x")}, "07000000" + "01" + "01000000" + "78"},
	"piece":     {&contentPiece{7, []byte("x")}, "07000000" + "01000000" + "78"},
	"pause":     {&pauseRequest{envelope.MTA, true}, "0201"},
	"report": {
		&reportRequest{7, "mx", envelope.Address{User: "a", Domain: "b"}},
		"07000000" + "020000006d78" + "0100000061" + "0100000062",
	},
}

func TestPayloadBytes(t *testing.T) {
	for name, g := range golden {
		if got := hex.EncodeToString(g.payload.append(nil)); got != g.hex {
			t.Errorf("%s: %s, want %s", name, got, g.hex)
		}
		b, _ := hex.DecodeString(g.hex)
		got, err := parsers[name](b)
		if d := cmp.Diff(g.payload, got); d != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
}

// FuzzPayload checks that what a parser accepts is what it would write.
func FuzzPayload(f *testing.F) {
	for name, g := range golden {
		f.Add(name, g.payload.append(nil))
	}
	s := submission{7, envelopes{testEnvelope(7, 1, "a.example")}}
	f.Add("submission", s.append(nil))
	f.Add("envelopes", s.Envelopes.append(nil))
	f.Add("listing", listing{{Envelope: s.Envelopes[0], InFlight: true, Error: "no"}}.append(nil))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		parse := parsers[name]
		if parse == nil {
			return
		}
		p, err := parse(b)
		if err != nil {
			return
		}
		if name == "results" && len(b) > maxText {
			return // append cuts what a peer may have left long
		}
		if again := p.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%s: %x came back as %x", name, b, again)
		}
	})
}

// TestLargeBatch hands out more than one message of the protocol holds.
func TestLargeBatch(t *testing.T) {
	a, b := imsg.Pipe()
	counts := make(chan int, 100)
	serve := imsg.NewPeer(b, DelivererHandler(countingDeliverer(counts)))
	ask := imsg.NewPeer(a, nil)
	go serve.Run(t.Context())
	go ask.Run(t.Context())
	batch := make([]envelope.Envelope, 600)
	for i := range batch {
		batch[i] = testEnvelope(1, i+1, "a.example")
		batch[i].Error = strings.Repeat("x", 10_000)
	}
	l, err := remoteDeliverer{ask}.Deliver(t.Context(), batch)
	if err != nil || len(l) != len(batch) {
		t.Fatalf("%d results, %v", len(l), err)
	}
	if n := len(counts); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

type countingDeliverer chan int

func (c countingDeliverer) Deliver(_ context.Context, batch []envelope.Envelope) ([]Result, error) {
	c <- len(batch)
	l := make([]Result, len(batch))
	for i := range batch {
		l[i] = Result{ID: batch[i].ID, Outcome: Delivered}
	}
	return l, nil
}
