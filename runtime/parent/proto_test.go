package parent

import (
	"bytes"
	"testing"
)

// fuzzProto checks that what parse accepts is encoded as it was.
func fuzzProto[T any](f *testing.F, seed T, app func([]byte, T) []byte, parse func([]byte) (T, error)) {
	f.Add(app(nil, seed))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		v, err := parse(p)
		if err != nil {
			return
		}
		if again := app(nil, v); !bytes.Equal(again, p) {
			t.Fatalf("%x parsed as %+v, which encodes as %x", p, v, again)
		}
	})
}

func FuzzDelivery(f *testing.F) {
	d := testDelivery("/home/alice", Maildir, "/home/alice/Maildir")
	d.Junk, d.SubAddress, d.Wrapper = true, "lists", "nice smtpd"
	fuzzProto(f, d, appendDelivery, parseDelivery)
}

func FuzzResult(f *testing.F) {
	fuzzProto(f, Result{TempFail, "4.2.2", "full"}, appendResult, parseResult)
}

func FuzzAccount(f *testing.F) {
	fuzzProto(f, Account{"alice", 1000, 1000, "/home/alice"}, appendAccount, parseAccount)
}

func FuzzForwardReply(f *testing.F) {
	fuzzProto(f, forwardReply{forwardPerm, "no"}, appendForwardReply, parseForwardReply)
}

// TestProtoRefuses checks what the fuzz targets cannot: values out of range.
func TestProtoRefuses(t *testing.T) {
	d := testDelivery("/home/alice", LMTP+1, "x")
	if _, err := parseDelivery(appendDelivery(nil, d)); err == nil {
		t.Error("a method that does not exist was accepted")
	}
	if _, err := parseResult(appendResult(nil, Result{})); err == nil {
		t.Error("no outcome was accepted")
	}
	if _, err := parseForwardReply(appendForwardReply(nil, forwardReply{State: forwardPerm + 1})); err == nil {
		t.Error("a state that does not exist was accepted")
	}
}
