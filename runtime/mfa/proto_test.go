package mfa

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"net/netip"

	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/runtime/envelope"
)

// TestRcptBytes is the golden of the encoding, on a machine with the low
// byte first.
func TestRcptBytes(t *testing.T) {
	q := Rcpt{
		Message: 0x01020304,
		Session: Session{ID: 5, Kind: engine.FromAddress, Addr: netip.MustParseAddr("192.0.2.1"), Tag: "t", Helo: "h", Auth: true, User: "u"},
		Sender:  envelope.Address{User: "s", Domain: "d"},
		Rcpt:    envelope.Address{User: "r", Domain: "e"},
		Flags:   envelope.SMTPUTF8,
		Notify:  envelope.NotifyNever, Ret: "FULL", EnvID: "i", ORcpt: "o", Hold: "h", Anew: true,
	}
	want := "04030201" + "0500000000000000" + "01" + "04000000c0000201" +
		"0100000074" + "00000000" + "0100000068" + "00000000" + "01" + "0100000075" + "00" +
		"0100000073" + "0100000064" + "0100000072" + "0100000065" + "20" + "08" +
		"0400000046554c4c" + "0100000069" + "010000006f" + "0100000068" + "01"
	if got := hex.EncodeToString(q.append(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

var addrs = cmpopts.EquateComparable(netip.Addr{})

func FuzzRcpt(f *testing.F) {
	f.Add(testRcpt(1, "a@b").append(nil))
	f.Add((&Rcpt{Session: Session{Kind: engine.FromSocket}}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q, again Rcpt
		if q.parse(b) != nil {
			return
		}
		out := q.append(nil)
		if err := again.parse(out); err != nil || !bytes.Equal(out, b) {
			t.Fatalf("%x came back as %x, %v", b, out, err)
		}
		if diff := cmp.Diff(q, again, addrs); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzVerdict(f *testing.F) {
	f.Add(verdict{Reply: expand.ReplyInvalid}.append(nil))
	f.Add(verdict{IDs: []envelope.ID{1, 2}}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v verdict
		if v.parse(b) == nil && !bytes.Equal(v.append(nil), b) {
			t.Fatalf("%x came back as %x", b, v.append(nil))
		}
	})
}
