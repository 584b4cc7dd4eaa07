package mta

import (
	"net/netip"
	"strconv"
	"strings"
)

// A mode says how a session to a host uses TLS, and which protocol it speaks.
type mode uint8

const (
	opportunistic mode = iota + 1 // STARTTLS if offered, unverified
	startTLS                      // STARTTLS or nothing
	plain                         // never TLS
	smtps                         // TLS from the first byte
	lmtp                          // LMTP, never TLS
)

// modeSchemes are the names of modes in logs.
var modeSchemes = [...]string{"", "smtp", "smtp+tls", "smtp+notls", "smtps", "lmtp"}

func (m mode) String() string { return modeSchemes[m] }

// secure reports whether nothing is said in m without TLS.
func (m mode) secure() bool { return m == startTLS || m == smtps }

const errURL = textError("Cannot parse smarthost")

// A smarthost is where a relay action sends all mail, or that of a domain.
type smarthost struct {
	mode  mode
	label string // of the credentials; "" for none
	host  string // a name, or an address without brackets
	port  uint16 // 0: the scheme's, which lmtp has none of
}

// parseSmarthost reads [scheme://][label@]host[:port].
func parseSmarthost(s string) (smarthost, error) {
	h := smarthost{mode: opportunistic}
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		switch strings.ToLower(scheme) {
		case "smtp":
		case "smtp+tls":
			h.mode = startTLS
		case "smtp+notls":
			h.mode = plain
		case "smtps":
			h.mode = smtps
		case "lmtp":
			h.mode = lmtp
		default:
			return smarthost{}, errURL
		}
		s = rest
	}
	if label, rest, ok := strings.Cut(s, "@"); ok {
		h.label, s = label, rest
	}
	if h.label != "" && !h.mode.secure() {
		return smarthost{}, errURL
	}
	host, rest, err := cutHost(s)
	if err != nil {
		return smarthost{}, err
	}
	h.host = host
	if port, ok := strings.CutPrefix(rest, ":"); ok {
		digits := port[:len(port)-len(strings.TrimLeft(port, "0123456789"))]
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 {
			return smarthost{}, errURL
		}
		h.port = uint16(n)
	}
	if h.mode == lmtp && h.port == 0 {
		return smarthost{}, errURL
	}
	return h, nil
}

// cutHost cuts the host off the start of s: an address in brackets, or a name.
func cutHost(s string) (host, rest string, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, rest, ok = strings.Cut(inner, "]")
		if ok && len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:") {
			inner = inner[5:]
		}
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || addr.Zone() != "" {
			return "", "", errURL
		}
		return addr.String(), rest, nil
	}
	end := strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_.-", r))
	})
	if end < 0 {
		end = len(s)
	}
	host, rest = s[:end], s[end:]
	if host == "" || len(host) > 255 || host[0] == '-' {
		return "", "", errURL
	}
	for label := range strings.SplitSeq(host, ".") { // a trailing dot leaves an empty one
		if label == "" || len(label) > 63 {
			return "", "", errURL
		}
	}
	return host, rest, nil
}
