package tableconf

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

func text(string) error { return nil }

func word(value string) error {
	if strings.ContainsAny(value, blanks) {
		return errors.New("holds white space")
	}
	return nil
}

func absolute(value string) error {
	if !strings.HasPrefix(value, "/") {
		return fmt.Errorf("%q is no absolute path", value)
	}
	return nil
}

func oneOf(words ...string) check {
	return func(value string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("%q is none of %s", value, strings.Join(words, ", "))
		}
		return nil
	}
}

func number(limit int) check {
	return func(value string) error {
		if n, err := strconv.Atoi(value); err != nil || n < 0 || n > limit {
			return fmt.Errorf("%q is no number from 0 to %d", value, limit)
		}
		return nil
	}
}

func duration(low, high time.Duration) check {
	return func(value string) error {
		d, err := parseDuration(value)
		if err != nil || d < low || d > high {
			return fmt.Errorf("%q is no time from %v to %v, such as 5s", value, low, high)
		}
		return nil
	}
}

// parseDuration reads a time; a number alone is seconds.
func parseDuration(value string) (time.Duration, error) {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	return time.ParseDuration(value)
}

// attributes checks a list of names.
func attributes(n int) check {
	return func(value string) error {
		names := List(value)
		if len(names) != n || slices.Contains(names, "") {
			return fmt.Errorf("%d attributes are needed, not %q", n, value)
		}
		return nil
	}
}

// List returns the parts of a list with commas.
func List(value string) []string {
	parts := strings.Split(value, ",")
	for i := range parts {
		parts[i] = strings.Trim(parts[i], blanks)
	}
	return parts
}

// filter checks the % of a filter: %u and %s are the key, %h is the name of
// the table, %% is a percent sign.
func filter(value string) error {
	_, err := Expand(value, func(c byte) (string, bool) { return "", strings.IndexByte("ush", c) >= 0 })
	return err
}

// Expand replaces what follows each % of a template; f returns the text for a
// character, and whether it means anything.
func Expand(template string, f func(c byte) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(template, "%")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		if after == "" {
			return "", errors.New(`a lone "%" ends it`)
		}
		text, ok := f(after[0])
		switch {
		case after[0] == '%':
			text = "%"
		case !ok:
			return "", fmt.Errorf("%q means nothing here", "%"+after[:1])
		}
		b.WriteString(text)
		template = after[1:]
	}
}

// command checks a command of Redis: %s is the key.
func command(value string) error {
	_, err := Expand(value, func(c byte) (string, bool) { return "", c == 's' })
	return err
}

func redisServer(value string) error {
	if path, ok := strings.CutPrefix(value, "unix:"); ok {
		return absolute(path)
	}
	return word(value)
}

// server checks the address of a socketmap, written as Postfix has it.
func server(value string) error {
	if path, ok := strings.CutPrefix(value, "unix:"); ok {
		return absolute(path)
	}
	address, ok := strings.CutPrefix(value, "inet:")
	if host, port, err := net.SplitHostPort(address); !ok || err != nil || host == "" || port == "" {
		return fmt.Errorf("%q is neither unix:/path nor inet:host:port", value)
	}
	return nil
}

// schemes are those of directories; the last is of no TLS at first, and then
// of nothing else.
var schemes = []string{"ldap", "ldaps", "ldapi", "ldap+tls"}

func ldapURL(value string) error {
	scheme, host, ok := strings.Cut(value, "://")
	if !ok {
		host = value
	} else if !slices.Contains(schemes, strings.ToLower(scheme)) {
		return fmt.Errorf("%q is none of %s", scheme, strings.Join(schemes, ", "))
	}
	if host == "" {
		return errors.New("it names no server")
	}
	return nil
}
