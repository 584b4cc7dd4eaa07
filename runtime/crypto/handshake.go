package crypto

import (
	"bytes"
	"strings"
)

// The texts that a TLS 1.3 signature covers begin with 64 spaces, who signs,
// and a zero byte; the hash of the handshake follows (RFC 8446, section 4.4.3).
var (
	asServer = []byte(strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00")
	asClient = []byte(strings.Repeat(" ", 64) + "TLS 1.3, client CertificateVerify\x00")
)

// serverText reports whether text has the form of what a server signs in a
// handshake: the text of TLS 1.3, or the random values and the key exchange of
// TLS 1.2 on an elliptic curve (RFC 8422, section 5.4).
//
// A digest says nothing of what it was made from, but the text that Ed25519
// signs does. Checked, it keeps a component that was taken over from having
// anything but handshakes signed.
func serverText(text []byte) bool {
	if hash, ok := bytes.CutPrefix(text, asServer); ok {
		return isHash(hash)
	}
	const randoms, header = 32 + 32, 1 + 2 + 1 // kind, curve, length of the point
	const namedCurve = 3
	return len(text) > randoms+header && text[randoms] == namedCurve &&
		len(text) == randoms+header+int(text[randoms+header-1])
}

// clientText is serverText for a client: in TLS 1.2 it signs all messages of
// the handshake so far (RFC 5246, section 7.4.8), each of which has its kind
// and its length before it; the first is its hello.
func clientText(text []byte) bool {
	if hash, ok := bytes.CutPrefix(text, asClient); ok {
		return isHash(hash)
	}
	const clientHello = 1
	if len(text) == 0 || text[0] != clientHello {
		return false
	}
	for len(text) > 0 {
		if len(text) < 4 {
			return false
		}
		n := 4 + int(text[1])<<16 + int(text[2])<<8 + int(text[3])
		if n > len(text) {
			return false
		}
		text = text[n:]
	}
	return true
}

// isHash reports whether b is as long as the hash of a cipher suite of TLS 1.3.
func isHash(b []byte) bool { return len(b) == 32 || len(b) == 48 }
