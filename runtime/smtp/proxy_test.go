package smtp

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// proxyHeader writes a header of version 2 as a proxy would: by hand, not with
// the library that reads it.
func proxyHeader(command, family byte, rest ...byte) string {
	h := "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{0x20 | command, family, byte(len(rest) >> 8), byte(len(rest))})
	return h + string(rest)
}

func addrs(src string) []byte {
	a := netip.MustParseAddr(src)
	b := append(a.AsSlice(), a.AsSlice()...)
	return append(b, 0x12, 0x34, 0, 25)
}

func TestReadProxyHeader(t *testing.T) {
	const local, proxy = 0, 1
	tests := []struct {
		name, header string
		want         string // address, "-" for the peer's own, or part of the error
	}{
		{"tcp4", proxyHeader(proxy, 0x11, addrs("192.0.2.9")...), "192.0.2.9"},
		{"tcp6", proxyHeader(proxy, 0x21, addrs("2001:db8::9")...), "2001:db8::9"},
		{"link local", proxyHeader(proxy, 0x21, addrs("fe80::9")...), "fe80::9"},
		{"v4-mapped", proxyHeader(proxy, 0x21, addrs("::ffff:192.0.2.9")...), "192.0.2.9"},
		{"with TLVs", proxyHeader(proxy, 0x11, append(addrs("192.0.2.9"), 4, 0, 2, 'x', 'y')...), "192.0.2.9"},
		{"unix", proxyHeader(proxy, 0x31, make([]byte, 216)...), "-"},
		{"local", proxyHeader(local, 0x00), "-"},
		{"local with addresses", proxyHeader(local, 0x11, addrs("192.0.2.9")...), "-"},
		{"unspecified", proxyHeader(proxy, 0x00), "protocol error"},
		{"udp", proxyHeader(proxy, 0x12, addrs("192.0.2.9")...), "not a stream"},
		{"short addresses", proxyHeader(proxy, 0x21, addrs("192.0.2.9")...), "protocol error"},
		{"unknown command", proxyHeader(7, 0x11, addrs("192.0.2.9")...), "protocol error"},
		{"version 1", "PROXY TCP4 192.0.2.9 192.0.2.1 1 25\r\n", "protocol error (invalid signature)"},
		{"SMTP", "EHLO client.example\r\nQUIT\r\n", "protocol error (invalid signature)"},
		{"too long", proxyHeader(proxy, 0x11)[:14] + "\xff\xff", "65535 bytes of header"},
		{"cut", proxyHeader(proxy, 0x11, addrs("192.0.2.9")...)[:20], "no header"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := strings.NewReader(tt.header + "EHLO")
			if tt.name == "cut" {
				r = strings.NewReader(tt.header)
			}
			a, err := readProxyHeader(r)
			switch {
			case err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("error %v, want %s", err, tt.want)
			case err != nil:
			case tt.want == "-" && !a.IsValid() || a.String() == tt.want:
				if rest, _ := io.ReadAll(r); string(rest) != "EHLO" {
					t.Errorf("left %q of what follows", rest)
				}
			default:
				t.Errorf("%v, want %s", a, tt.want)
			}
		})
	}
}

// FuzzReadProxyHeader checks that nothing is read past the length that a
// header declares, and that addresses come without a zone or mapping.
func FuzzReadProxyHeader(f *testing.F) {
	f.Add([]byte(proxyHeader(1, 0x21, addrs("::ffff:192.0.2.9")...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := readProxyHeader(r)
		if err != nil {
			return
		}
		if used, want := len(b)-r.Len(), proxyPrefix+int(b[14])<<8+int(b[15]); used != want {
			t.Errorf("read %d bytes of %d", used, want)
		}
		if a.Is4In6() || a.Zone() != "" {
			t.Errorf("address %v", a)
		}
	})
}

func withProxy(_ *rig, l *compile.Listener) { l.ProxyV2 = true }

// dialProxied sends a header on a new connection.
func (r *rig) dialProxied(header, script string) {
	r.t.Helper()
	d := r.dial()
	if _, err := io.WriteString(d.Conn, header); err != nil {
		r.t.Fatal(err)
	}
	runOn(r.t, d, script)
}

// TestProxy checks that a session is the client's of whom the header tells.
func TestProxy(t *testing.T) {
	r := newRig(t, withProxy)
	r.dialProxied(proxyHeader(1, 0x11, addrs("192.0.2.9")...), "S: 220\nC: HELO a\nS: 250 mx.example Hello a [192.0.2.9]\n")
	r.dialProxied(proxyHeader(0, 0x00), "S: 220\nC: HELO a\nS: 250 mx.example Hello a [127.0.0.1]\n")
	r.dialProxied("PROXY TCP4 192.0.2.9 192.0.2.1 1 25\r\n", "closed\n")
	r.stop()
	for _, want := range []string{
		`event=closed address=127.0.0.1 reason="protocol error (invalid signature)"`,
		` event=proxy address=127.0.0.1`,
	} {
		if !strings.Contains(r.logs.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, r.logs)
		}
	}
}

// TestProxyTLS has the TLS of a client begin in the same packet.
func TestProxyTLS(t *testing.T) {
	r := newRig(t, withProxy, func(_ *rig, l *compile.Listener) { l.TLS, l.PKI = compile.SMTPS, []string{"mx.example"} })
	r.dialProxied(proxyHeader(1, 0x11, addrs("192.0.2.9")...), "tls\nS: 220\nC: HELO a\nS: 250 mx.example Hello a [192.0.2.9]\n")
}

// TestProxySilent checks that a peer without a header does not stay.
func TestProxySilent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		began := time.Now()
		r.run("closed\n")
		if d := time.Since(began); d != defaultTimeout {
			t.Errorf("it stayed for %v, want %v", d, defaultTimeout)
		}
	}, withProxy)
}

// TestProxyLoopback checks that nobody becomes this host by saying so.
func TestProxyLoopback(t *testing.T) {
	for peer, want := range map[string]bool{"127.0.0.1": true, "192.0.2.1": false} {
		r := newRig(t)
		s := proxied(r, netip.MustParseAddr(peer), proxyHeader(1, 0x11, addrs("127.0.0.1")...))
		if got := s.takeProxyHeader(); got != want {
			t.Errorf("from %s: %v, want %v", peer, got, want)
		}
	}
}

// proxied returns a session whose peer has sent header.
func proxied(r *rig, peer netip.Addr, header string) *session {
	ours, theirs, err := imsg.Stream("session")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { ours.Close(); theirs.Close() })
	if _, err := theirs.WriteString(header); err != nil {
		r.t.Fatal(err)
	}
	s := newSession(r.t.Context(), r.server, &endpoint{}, ours)
	s.addr = peer
	s.conn.begin()
	return s
}

// TestProxyFrom checks that the header of a peer is believed, or even read,
// only if the configuration names it.
func TestProxyFrom(t *testing.T) {
	header := proxyHeader(1, 0x11, addrs("192.0.2.9")...)
	for _, tt := range []struct {
		peer  string
		table compile.TableID
		want  string // part of the log, "" for a peer that is believed
	}{
		{"127.0.0.1", 1, ""},
		{"192.0.2.1", 1, "event=closed address=192.0.2.1 reason=\"it is no proxy of ours\""},
		{"2001:db8::1", 1, "address=[2001:db8::1] reason=\"it is no proxy of ours\""},
		{"127.0.0.1", 2, "nobody knows whether it is a proxy of ours: table is gone"},
		{"192.0.2.1", 0, ""},
	} {
		r := newRig(t)
		s := proxied(r, netip.MustParseAddr(tt.peer), header)
		s.at.proxyFrom = tt.table
		if got := s.takeProxyHeader(); got != (tt.want == "") || !strings.Contains(r.logs.String(), tt.want) {
			t.Errorf("from %s, table %d: %v, log:\n%s", tt.peer, tt.table, got, r.logs)
		} else if got && s.addr != netip.MustParseAddr("192.0.2.9") {
			t.Errorf("from %s: the client is %v", tt.peer, s.addr)
		}
	}
}
