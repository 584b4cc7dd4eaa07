package lka

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"
)

// codecs makes an empty message of each kind.
var codecs = []func() codec{
	func() codec { return new(tableQuery) },
	func() codec { return new(nameQuery) },
	func() codec { return new(addrQuery) },
	func() codec { return new(valueAnswer) },
	func() codec { return new(userAnswer) },
	func() codec { return new(mxAnswer) },
	func() codec { return new(txtAnswer) },
	func() codec { return new(tlsaAnswer) },
	func() codec { return new(ptrAnswer) },
	func() codec { return new(snapshotQuery) },
	func() codec { return new(snapshotPart) },
	func() codec { return new(change) },
	func() codec { return new(Question) },
	func() codec { return new(Probe) },
	func() codec { return new(loginQuery) },
	func() codec { return new(STS) },
}

type codec = interface {
	appender
	parser
}

// TestBytes is the golden of the encodings, on a machine with the low byte
// first.
func TestBytes(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	tests := []struct {
		m    appender
		want string
	}{
		{tableQuery{2, 0x401, "k"}, "02000000" + "01040000" + "010000006b"},
		{nameQuery{"a.b"}, "03000000612e62"},
		{addrQuery{v4}, "04000000c0000201"},
		{valueAnswer{true, "v"}, "01" + "0100000076"},
		{userAnswer{true, UserInfo{"u", 1, 2, "/h"}}, "01" + "0100000075" + "01000000" + "02000000" + "020000002f68"},
		{mxAnswer{nil, []MX{{"m", 10, []netip.Addr{v6}, true, "c"}}}, "00" + "01000000" + "010000006d" + "0a000000" + "01000000" +
			"10000000" + "20010db8000000000000000000000001" + "01" + "0100000063"},
		{mxAnswer{errNoMX, nil}, "01" + "16000000" + hex.EncodeToString([]byte("No MX found for domain")) + "00" + "00000000"},
		{txtAnswer{nil, []string{"a", "bc"}}, "00" + "02000000" + "01000000" + "61" + "02000000" + "6263"},
		{tlsaAnswer{nil, true, []TLSA{{3, 1, 2, []byte{0xab}}}}, "00" + "01" + "01000000" + "030102" + "01000000ab"},
		{STS{true, STSPolicy{STSEnforce, []string{"m"}, time.Minute}, "p"}, "01" + "03" + "01000000" + "01000000" + "6d" + "3c000000" + "0100000070"},
		{ptrAnswer{nil, "n", Pass}, "00" + "010000006e" + "01"},
		{snapshotQuery{2, 3, 4}, "02000000" + "0300000000000000" + "04000000"},
		{snapshotPart{3, 9, []string{"a", "bc"}}, "0300000000000000" + "09000000" + "02000000" + "01000000" + "02000000" + "03000000616263"},
		{change{2, 3}, "02000000" + "0300000000000000"},
		{Question{"t", 1, "k"}, "0100000074" + "01000000" + "010000006b"},
		{&Probe{"b", true, "v", "e", 5}, "0100000062" + "01" + "0100000076" + "0100000065" + "0500000000000000"},
		{loginQuery{2, "u", "p"}, "02000000" + "0100000075" + "0100000070"},
	}
	for _, tt := range tests {
		if got := hex.EncodeToString(tt.m.append(nil)); got != tt.want {
			t.Errorf("%T:\ngot  %s\nwant %s", tt.m, got, tt.want)
		}
	}
}

// FuzzProto checks that a payload which parses is the encoding of what was
// parsed: there is one way to say a thing.
func FuzzProto(f *testing.F) {
	f.Add(uint8(0), tableQuery{1, 2, "key"}.append(nil))
	f.Add(uint8(4), userAnswer{true, UserInfo{"u", 1, 2, "/h"}}.append(nil))
	f.Add(uint8(5), mxAnswer{errNoMX, []MX{{"m", 10, []netip.Addr{netip.IPv6Loopback()}, true, "c"}}}.append(nil))
	f.Add(uint8(7), tlsaAnswer{nil, true, []TLSA{{3, 1, 1, []byte("data")}}}.append(nil))
	f.Add(uint8(8), ptrAnswer{errNoReverse, "n", Error}.append(nil))
	f.Add(uint8(13), STS{true, STSPolicy{STSTesting, []string{"mx.example"}, time.Hour}, "p"}.append(nil))
	f.Add(uint8(10), snapshotPart{3, 9, []string{"a", ""}}.append(nil))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m := codecs[int(kind)%len(codecs)]()
		if m.parse(b) != nil {
			return
		}
		if out := m.append(nil); !bytes.Equal(out, b) {
			t.Fatalf("%T: %x came back as %x", m, b, out)
		}
	})
}
