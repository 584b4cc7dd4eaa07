package lka

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An STSMode is what a policy wants done with a host that does not meet it.
type STSMode uint8

// The modes of RFC 8461, section 5.
const (
	STSNone    STSMode = iota + 1 // there is no policy any more
	STSTesting                    // deliver, and report
	STSEnforce                    // do not deliver
)

var stsModeNames = [...]string{"?", "none", "testing", "enforce"}

// String returns the word of the policy file.
func (m STSMode) String() string {
	if int(m) < len(stsModeNames) {
		return stsModeNames[m]
	}
	return stsModeNames[0]
}

// An STSPolicy is what a domain says of the hosts that take its mail (RFC 8461,
// section 3.2).
type STSPolicy struct {
	Mode   STSMode
	MX     []string // patterns in lower case
	MaxAge time.Duration
}

// Matches reports whether a host is one of the policy's: a pattern is a name,
// or stands for one label before it (RFC 8461, section 4.1).
func (p *STSPolicy) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, pattern := range p.MX {
		if host == pattern {
			return true
		}
		if rest, ok := strings.CutPrefix(pattern, "*."); ok {
			label, parent, _ := strings.Cut(host, ".")
			if label != "" && parent == rest {
				return true
			}
		}
	}
	return false
}

// Bounds of a policy.
const (
	maxPolicySize = 64 << 10
	maxPolicyMX   = 64
	maxPolicyAge  = 31557600 // seconds: RFC 8461, section 3.2
)

// parsePolicy reads a policy file. Of a key that comes again the first counts;
// unknown ones are for later versions.
func parsePolicy(text string) (STSPolicy, error) {
	var p STSPolicy
	seen := make(map[string]bool)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n \t")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return p, fmt.Errorf("a line without a colon: %.40q", line)
		}
		value = strings.Trim(value, " \t")
		if key == "mx" {
			if err := p.addMX(value); err != nil {
				return p, err
			}
			continue
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		if err := p.set(key, value); err != nil {
			return p, err
		}
	}
	switch {
	case !seen["version"] || !seen["mode"] || !seen["max_age"]:
		return p, errors.New("version, mode or max_age is missing")
	case len(p.MX) == 0 && p.Mode != STSNone:
		return p, errors.New("no mx")
	}
	return p, nil
}

func (p *STSPolicy) addMX(value string) error {
	value = strings.ToLower(strings.TrimSuffix(value, "."))
	if !isHostName(strings.TrimPrefix(value, "*.")) {
		return fmt.Errorf("mx: %.80q is no pattern", value)
	}
	if len(p.MX) == maxPolicyMX {
		return errors.New("too many mx")
	}
	p.MX = append(p.MX, value)
	return nil
}

func (p *STSPolicy) set(key, value string) error {
	switch key {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("version %.40q is not known", value)
		}
	case "mode":
		for m := STSNone; m <= STSEnforce; m++ {
			if value == m.String() {
				p.Mode = m
			}
		}
		if p.Mode == 0 {
			return fmt.Errorf("mode %.40q is not known", value)
		}
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 40)
		if err != nil || n > maxPolicyAge {
			return fmt.Errorf("max_age %.40q is out of range", value)
		}
		p.MaxAge = time.Duration(n) * time.Second
	}
	return nil
}

// policyID returns the id in the TXT records of _mta-sts, "" unless exactly one
// of them is of this protocol and well formed (RFC 8461, section 3.1).
func policyID(texts []string) string {
	id, n := "", 0
	for _, text := range texts {
		fields := strings.Split(text, ";")
		if strings.TrimRight(fields[0], " \t") != "v=STSv1" {
			continue
		}
		n++
		for _, f := range fields[1:] {
			if value, ok := strings.CutPrefix(strings.Trim(f, " \t"), "id="); ok && id == "" {
				id = value
			}
		}
	}
	if n != 1 || len(id) > 32 || strings.ContainsFunc(id, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z')
	}) {
		return ""
	}
	return id
}
