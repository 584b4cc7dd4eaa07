// Package cipher reads the strings by which the configuration chooses versions
// and cipher suites of TLS, in the words of OpenSSL and libtls, and names what
// a handshake has come to.
package cipher

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// A suite is a cipher suite that crypto/tls has, with the words by which
// cipher strings select it.
type suite struct {
	id    uint16
	name  string // OpenSSL's
	bits  int
	words string // space around each
}

// suites are those of TLS 1.2 and before, best first.
var suites = [...]suite{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", 256, " ECDHE EECDH ECDSA aECDSA AES AES256 AESGCM SHA384 HIGH DEFAULT SECURE "},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", 256, " ECDHE EECDH aRSA AES AES256 AESGCM SHA384 HIGH DEFAULT SECURE "},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", 256, " ECDHE EECDH ECDSA aECDSA CHACHA20 HIGH DEFAULT SECURE "},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", 256, " ECDHE EECDH aRSA CHACHA20 HIGH DEFAULT SECURE "},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", 128, " ECDHE EECDH ECDSA aECDSA AES AES128 AESGCM SHA256 HIGH DEFAULT SECURE "},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", 128, " ECDHE EECDH aRSA AES AES128 AESGCM SHA256 HIGH DEFAULT SECURE "},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA", 256, " ECDHE EECDH ECDSA aECDSA AES AES256 SHA SHA1 HIGH DEFAULT "},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA", 256, " ECDHE EECDH aRSA AES AES256 SHA SHA1 HIGH DEFAULT "},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA", 128, " ECDHE EECDH ECDSA aECDSA AES AES128 SHA SHA1 HIGH DEFAULT "},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA", 128, " ECDHE EECDH aRSA AES AES128 SHA SHA1 HIGH DEFAULT "},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, "AES256-GCM-SHA384", 256, " RSA kRSA aRSA AES AES256 AESGCM SHA384 HIGH "},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "AES128-GCM-SHA256", 128, " RSA kRSA aRSA AES AES128 AESGCM SHA256 HIGH "},
	{tls.TLS_RSA_WITH_AES_256_CBC_SHA, "AES256-SHA", 256, " RSA kRSA aRSA AES AES256 SHA SHA1 HIGH "},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA, "AES128-SHA", 128, " RSA kRSA aRSA AES AES128 SHA SHA1 HIGH "},
}

// tls13 are the suites of TLS 1.3. crypto/tls always offers all of them.
var tls13 = [...]suite{
	{tls.TLS_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", 256, ""},
	{tls.TLS_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", 256, ""},
	{tls.TLS_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", 128, ""},
}

// absent are words for what crypto/tls never does: to exclude it is granted,
// to ask for it is refused.
const absent = " aNULL eNULL NULL EXP EXPORT LOW MEDIUM MD5 RC4 RC2 DES 3DES SEED IDEA CAMELLIA ARIA PSK SRP DSS aDSS ADH AECDH kDH kECDH aECDH DH EDH DHE kEDH kDHE SSLv2 SSLv3 GOST CBC3 COMPLEMENTOFALL COMPLEMENTOFDEFAULT "

// Describe returns version, suite and the bits of its key, as headers and logs
// show them.
func Describe(state *tls.ConnectionState) string {
	name, bits := Suite(state.CipherSuite)
	return fmt.Sprintf("%s:%s:%d", versionNames[state.Version], name, bits)
}

var versionNames = map[uint16]string{
	tls.VersionTLS10: "TLSv1",
	tls.VersionTLS11: "TLSv1.1",
	tls.VersionTLS12: "TLSv1.2",
	tls.VersionTLS13: "TLSv1.3",
}

// Suite returns OpenSSL's name of a suite and the bits of its key.
func Suite(id uint16) (name string, bits int) {
	for _, list := range [...][]suite{tls13[:], suites[:]} {
		for _, s := range list {
			if s.id == id {
				return s.name, s.bits
			}
		}
	}
	return tls.CipherSuiteName(id), 0
}

// ParseSuites reads a cipher string of OpenSSL as far as crypto/tls can
// follow it: the set is honoured, the order is the library's own. "" gives
// the library's defaults.
func ParseSuites(s string) ([]uint16, error) {
	if s == "" {
		return nil, nil
	}
	chosen := make([]bool, len(suites))
	killed := make([]bool, len(suites))
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(":, ", r) }) {
		if err := applyCipher(word, chosen, killed); err != nil {
			return nil, err
		}
	}
	var ids []uint16
	for i, s := range suites {
		if chosen[i] && !killed[i] {
			ids = append(ids, s.id)
		}
	}
	if len(ids) == 0 {
		return nil, errors.New("no cipher is left")
	}
	return ids, nil
}

// applyCipher applies one word of a cipher string.
func applyCipher(word string, chosen, killed []bool) error {
	op, selector := word[0], strings.TrimLeft(word, "!-+")
	if word == "@STRENGTH" || strings.HasPrefix(word, "TLS_") && isTLS13(word) {
		return nil
	}
	matched := false
	for i := range suites {
		if !suites[i].matches(selector) {
			continue
		}
		matched = true
		switch op {
		case '!':
			killed[i] = true
		case '-':
			chosen[i] = false
		case '+': // order only
		default:
			chosen[i] = true
		}
	}
	if !matched && (op != '!' && op != '-' && op != '+' || !knownAbsent(selector)) {
		return fmt.Errorf("%q is not available", word)
	}
	return nil
}

// matches reports whether every word of a selector, A+B, fits.
func (s *suite) matches(selector string) bool {
	if selector == s.name {
		return true
	}
	for word := range strings.SplitSeq(selector, "+") {
		switch strings.ToUpper(word) {
		case "ALL", "COMPAT", "LEGACY", "INSECURE":
			continue
		case "DEFAULT", "SECURE", "HIGH":
			word = strings.ToUpper(word)
		}
		if !strings.Contains(s.words, " "+word+" ") {
			return false
		}
	}
	return true
}

// knownAbsent reports whether a selector names only what does not exist here.
func knownAbsent(selector string) bool {
	for word := range strings.SplitSeq(selector, "+") {
		if strings.Contains(absent, " "+word+" ") || strings.Contains(word, "-") {
			return true
		}
	}
	return false
}

func isTLS13(name string) bool {
	for _, s := range tls13 {
		if s.name == name {
			return true
		}
	}
	return false
}

var protocolBits = map[string]uint{
	"all": 0b1111, "legacy": 0b1111, "secure": 0b1100, "default": 0b1100,
	"tlsv1": 0b1111, "tlsv1.0": 0b0001, "tlsv1.1": 0b0010, "tlsv1.2": 0b0100, "tlsv1.3": 0b1000,
}

// ParseProtocols reads a protocol string of libtls into the range that
// crypto/tls wants. "" is TLS 1.2 and later.
func ParseProtocols(s string) (low, high uint16, err error) {
	if s == "" {
		s = "secure"
	}
	var set uint
	for i, word := range strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == ',' || r == ':' }) {
		word = strings.TrimSpace(word)
		name, minus := strings.CutPrefix(word, "!")
		bits, ok := protocolBits[name]
		switch {
		case !ok:
			return 0, 0, fmt.Errorf("%q is not known", word)
		case minus && i == 0:
			set = protocolBits["all"] &^ bits
		case minus:
			set &^= bits
		default:
			set |= bits
		}
	}
	for v := tls.VersionTLS10; v <= tls.VersionTLS13; v++ {
		if set&(1<<(v-tls.VersionTLS10)) == 0 {
			continue
		}
		if low == 0 {
			low = uint16(v)
		} else if high != uint16(v-1) {
			return 0, 0, errors.New("a version is missing in between")
		}
		high = uint16(v)
	}
	if low == 0 {
		return 0, 0, errors.New("no version is left")
	}
	return low, high, nil
}
