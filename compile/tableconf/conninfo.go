package tableconf

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// libpq has settings that its successor in Go does not know and would send to
// the server. Those in harmless may be left out; without those in refused a
// connection would be another one than was asked for.
var (
	harmless = []string{
		"fallback_application_name", "gssencmode", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
		"sslcompression", "tcp_user_timeout",
	}
	refused = []string{
		"channel_binding", "gssdelegation", "gsslib", "hostaddr", "load_balance_hosts", "replication", "require_auth",
		"requirepeer", "requiressl", "sslcertmode", "sslcrl", "sslcrldir", "ssl_max_protocol_version",
	}
)

func conninfo(value string) error {
	_, err := Conninfo(value)
	return err
}

// Conninfo returns a connection string of PostgreSQL without what has no
// effect. In both of its forms, settings and URL, what cannot be obeyed is an
// error.
func Conninfo(value string) (string, error) {
	if strings.HasPrefix(value, "postgres://") || strings.HasPrefix(value, "postgresql://") {
		return conninfoURL(value)
	}
	pairs, err := conninfoPairs(value)
	if err != nil {
		return "", err
	}
	var kept []string
	for _, p := range pairs {
		use, err := mayPass(p[0])
		if err != nil {
			return "", err
		}
		if use {
			kept = append(kept, p[0]+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p[1])+"'")
		}
	}
	return strings.Join(kept, " "), nil
}

func mayPass(key string) (bool, error) {
	if slices.Contains(refused, key) {
		return false, fmt.Errorf("%s is not supported", key)
	}
	return !slices.Contains(harmless, key), nil
}

func conninfoURL(value string) (string, error) {
	u, err := url.Parse(value)
	if err != nil {
		return "", errors.New("it is no URL") // the error would show the password
	}
	query := u.Query()
	for key := range query {
		use, err := mayPass(key)
		if err != nil {
			return "", err
		}
		if !use {
			query.Del(key)
		}
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// conninfoPairs splits settings: a word, an equals sign with or without white
// space about it, and a word or a text in single quotes; a backslash takes
// the next character literally.
func conninfoPairs(s string) (pairs [][2]string, err error) {
	for {
		s = strings.TrimLeft(s, blanks)
		if s == "" {
			return pairs, nil
		}
		key, rest, ok := strings.Cut(s, "=")
		key = strings.TrimRight(key, blanks)
		if !ok || key == "" || strings.ContainsAny(key, blanks) {
			return nil, errors.New("it is no list of setting=value")
		}
		value, rest, err := conninfoValue(strings.TrimLeft(rest, blanks))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		pairs = append(pairs, [2]string{key, value})
		s = rest
	}
}

func conninfoValue(s string) (value, rest string, err error) {
	quoted := strings.HasPrefix(s, "'")
	if quoted {
		s = s[1:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			return b.String(), s[i+1:], nil
		case !quoted && strings.IndexByte(blanks, c) >= 0:
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errors.New("a quote is not closed")
	}
	return b.String(), "", nil
}
