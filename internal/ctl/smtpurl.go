package ctl

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// A security says how a session uses TLS.
type security int

const (
	tlsOffered security = iota // if the server offers it
	tlsDemanded
	tlsNever
	tlsFirst // from the first byte
)

// A server is where the program smtp sends mail.
type server struct {
	scheme   string // for people
	lmtp     bool
	security security
	user     string // with password, to log in
	password string
	host     string // a name, or an address without brackets
	port     string
}

// schemes are those of URLs of servers, with the port that is meant if none is
// named. LMTP has none of its own (RFC 2033, section 5).
var schemes = map[string]struct {
	lmtp     bool
	security security
	port     string
}{
	"smtp":       {false, tlsOffered, "25"},
	"smtp+tls":   {false, tlsDemanded, "25"},
	"smtp+notls": {false, tlsNever, "25"},
	"smtps":      {false, tlsFirst, "465"},
	"lmtp":       {true, tlsOffered, ""},
	"lmtp+tls":   {true, tlsDemanded, ""},
	"lmtp+notls": {true, tlsNever, ""},
}

// parseServer reads [proto://[user:pass@]]host[:port].
func parseServer(s string) (*server, error) {
	v := &server{scheme: "smtp"}
	rest := s
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		v.scheme, rest = strings.ToLower(scheme), after
		// The last @: a password may have one, a host cannot.
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			if err := v.credentials(rest[:at]); err != nil {
				return nil, err
			}
			rest = rest[at+1:]
		}
	}
	p, ok := schemes[v.scheme]
	if !ok {
		return nil, fmt.Errorf("no protocol %q", v.scheme)
	}
	v.lmtp, v.security, v.port = p.lmtp, p.security, p.port
	if err := v.address(strings.TrimSuffix(rest, "/")); err != nil {
		return nil, fmt.Errorf("server %q: %w", rest, err)
	}
	if v.user != "" && v.security == tlsNever {
		return nil, errors.New("a password is not sent without TLS")
	}
	return v, nil
}

func (v *server) credentials(s string) error {
	user, password, ok := strings.Cut(s, ":")
	if !ok {
		return errors.New("the user in the URL has no password: user:pass@")
	}
	var err1, err2 error
	v.user, err1 = url.PathUnescape(user)
	v.password, err2 = url.PathUnescape(password)
	if err := errors.Join(err1, err2); err != nil || v.user == "" {
		return errors.New("the user or the password in the URL cannot be read: write % as %25")
	}
	return nil
}

// address reads host, host:port, [address] or [address]:port.
func (v *server) address(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), v.port
		if net.ParseIP(host) == nil && strings.ContainsAny(host, ":[]") {
			return errors.New("no host[:port]")
		}
	}
	switch {
	case host == "" || strings.ContainsAny(host, "/ \t"):
		return errors.New("no host[:port]")
	case port == "":
		return fmt.Errorf("%s needs a port", v.scheme)
	}
	v.host, v.port = host, port
	return nil
}
