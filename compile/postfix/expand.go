package postfix

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// unnamed stands for the name of a host that is not known. No file can hold
// it: a line ends at a NUL.
const unnamed = "\x00"

// defaults are those of Postfix 3.7, of the parameters that are read here.
var defaults = map[string]string{
	"mydestination":                    "$myhostname, localhost.$mydomain, localhost",
	"myorigin":                         "$myhostname",
	"inet_interfaces":                  "all",
	"inet_protocols":                   "all",
	"mynetworks_style":                 "${{$compatibility_level} <level {2} ? {subnet} : {host}}",
	"compatibility_level":              "0",
	"relay_domains":                    "${{$compatibility_level} <level {2} ? {$mydestination} : {}}",
	"virtual_alias_maps":               "$virtual_maps",
	"virtual_alias_domains":            "$virtual_alias_maps",
	"virtual_mailbox_domains":          "$virtual_mailbox_maps",
	"virtual_transport":                "virtual",
	"local_transport":                  "local",
	"relay_transport":                  "relay",
	"default_transport":                "smtp",
	"alias_maps":                       "hash:/etc/aliases",
	"message_size_limit":               "10240000",
	"maximal_queue_lifetime":           "5d",
	"bounce_queue_lifetime":            "5d",
	"delay_warning_time":               "0h",
	"smtpd_recipient_limit":            "1000",
	"queue_directory":                  "/var/spool/postfix",
	"config_directory":                 "/etc/postfix",
	"daemon_directory":                 "/usr/lib/postfix/sbin",
	"command_directory":                "/usr/sbin",
	"data_directory":                   "/var/lib/postfix",
	"mail_owner":                       "postfix",
	"default_database_type":            "hash",
	"smtpd_relay_restrictions":         "${{$compatibility_level} <level {1} ? {} : {permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination}}",
	"smtpd_sasl_auth_enable":           "no",
	"smtpd_tls_wrappermode":            "no",
	"smtpd_delay_reject":               "yes",
	"smtp_sasl_auth_enable":            "no",
	"smtp_tls_wrappermode":             "no",
	"smtpd_sasl_type":                  "cyrus",
	"smtpd_tls_key_file":               "$smtpd_tls_cert_file",
	"smtp_tls_key_file":                "$smtp_tls_cert_file",
	"smtpd_milters":                    "",
	"content_filter":                   "",
	"parent_domain_matches_subdomains": "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps",
}

// raw returns the value of a parameter as it is written, or its default.
func (s *scope) raw(name string) string {
	if p := s.lookup(name); p != nil {
		return p.value
	}
	if name == "myhostname" {
		return s.host()
	}
	return defaults[name]
}

func (s *scope) host() string {
	for s.outer != nil {
		s = s.outer
	}
	if s.server == "" {
		return unnamed
	}
	return s.server
}

// value returns the value of a parameter with what it refers to.
func (s *scope) value(name string) (string, error) {
	x := expansion{scope: s, left: maxValue}
	return x.param(name)
}

// An expansion is the work on one value.
type expansion struct {
	scope *scope
	depth int
	left  int // bytes that it may still have
}

func (x *expansion) param(name string) (string, error) {
	if name == "mydomain" && !x.scope.set(name) {
		return x.domain()
	}
	return x.text(x.scope.raw(name), name)
}

// domain returns the default of mydomain: the name of the host without its
// first part.
func (x *expansion) domain() (string, error) {
	host := x.scope.host()
	if p := x.scope.lookup("myhostname"); p != nil && !strings.Contains(p.value, "mydomain") {
		var err error
		if host, err = x.text(p.value, "mydomain"); err != nil {
			return "", err
		}
	}
	if host == unnamed {
		return host, nil
	}
	if _, domain, ok := strings.Cut(host, "."); ok {
		return domain, nil
	}
	return "localdomain", nil
}

// text expands the text of a parameter, or of a part of it.
func (x *expansion) text(text, of string) (string, error) {
	if x.depth++; x.depth > maxNested {
		return "", fmt.Errorf("%s refers to itself, or goes %d parameters deep", of, maxNested)
	}
	defer func() { x.depth-- }()
	var b strings.Builder
	for text != "" {
		i := strings.IndexByte(text, '$')
		if i < 0 {
			i = len(text)
		}
		if x.left -= i + 1; x.left < 0 {
			return "", fmt.Errorf("%s has more than %d bytes", of, maxValue)
		}
		b.WriteString(text[:i])
		if text = text[i:]; text == "" {
			break
		}
		value, rest, err := x.reference(text[1:], of)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		text = rest
	}
	return b.String(), nil
}

// reference expands what stands after a dollar.
func (x *expansion) reference(text, of string) (value, rest string, err error) {
	switch {
	case strings.HasPrefix(text, "$"):
		return "$", text[1:], nil
	case strings.HasPrefix(text, "{") || strings.HasPrefix(text, "("):
		inside, rest, ok := bracketed(text)
		if !ok {
			return "", "", fmt.Errorf("%s has a %q that is not closed", of, "$"+text[:1])
		}
		value, err = x.braced(inside, of)
		return value, rest, err
	}
	n := nameLen(text)
	if n == 0 {
		return "", "", fmt.Errorf("%s has a $ without a name", of)
	}
	value, err = x.param(text[:n])
	return value, text[n:], err
}

// braced expands what stands between ${ and }.
func (x *expansion) braced(inside, of string) (string, error) {
	inside = strings.TrimLeft(inside, blanks)
	n := nameLen(inside)
	name, rest := inside[:n], strings.TrimLeft(inside[n:], blanks)
	switch {
	case n == 0 && strings.HasPrefix(rest, "{"):
		return x.comparison(rest, of)
	case n > 0 && rest == "":
		return x.param(name)
	case n > 0 && (rest[0] == '?' || rest[0] == ':'):
		value, err := x.param(name)
		if err != nil {
			return "", err
		}
		return x.choice(rest, value != "", of)
	}
	return "", fmt.Errorf("%s has %q, which is no reference", of, clip("${"+inside+"}"))
}

// choice expands ?text, :text or ?{text}:{text}.
func (x *expansion) choice(text string, yes bool, of string) (string, error) {
	wanted := text[0] == '?'
	text = strings.TrimLeft(text[1:], blanks)
	first, second := text, ""
	if inside, rest, ok := bracketed(text); ok && text[0] == '{' {
		first = inside
		rest = strings.TrimLeft(rest, blanks)
		if other, ok := strings.CutPrefix(rest, ":"); ok && wanted {
			second = strings.TrimLeft(other, blanks)
			if inside, _, ok := bracketed(second); ok && second[0] == '{' {
				second = inside
			}
		}
	}
	if yes == wanted {
		return x.text(strings.TrimLeft(first, blanks), of)
	}
	return x.text(strings.TrimLeft(second, blanks), of)
}

// comparison expands {a} == {b} ? {yes} : {no}.
func (x *expansion) comparison(text, of string) (string, error) {
	bad := fmt.Errorf("%s has %q, which is no comparison", of, clip("${"+text+"}"))
	left, rest, ok := bracketed(text)
	if !ok {
		return "", bad
	}
	rest = strings.TrimLeft(rest, blanks)
	i := strings.IndexAny(rest, "{"+blanks)
	if i < 0 {
		return "", bad
	}
	operator := rest[:i]
	rest = strings.TrimLeft(rest[i:], blanks)
	if !strings.HasPrefix(rest, "{") {
		return "", bad
	}
	right, rest, ok := bracketed(rest)
	rest = strings.TrimLeft(rest, blanks)
	if !ok || rest == "" || rest[0] != '?' && rest[0] != ':' {
		return "", bad
	}
	a, err := x.text(strings.Trim(left, blanks), of)
	if err != nil {
		return "", err
	}
	b, err := x.text(strings.Trim(right, blanks), of)
	if err != nil {
		return "", err
	}
	operator, levels := strings.CutSuffix(operator, "level")
	yes, ok := compare(a, operator, b, levels)
	if !ok {
		return "", bad
	}
	return x.choice(rest, yes, of)
}

// compare compares whole numbers as such, levels of compatibility such as 3.6
// by their parts, and all else as text.
func compare(a, operator, b string, levels bool) (result, ok bool) {
	order := strings.Compare(a, b)
	x, err1 := numbers(a)
	y, err2 := numbers(b)
	if err1 == nil && err2 == nil && (levels || len(x) == 1 && len(y) == 1) {
		order = slices.Compare(x, y)
	}
	switch operator {
	case "==":
		return order == 0, true
	case "!=":
		return order != 0, true
	case "<":
		return order < 0, true
	case "<=":
		return order <= 0, true
	case ">":
		return order > 0, true
	case ">=":
		return order >= 0, true
	}
	return false, false
}

func numbers(s string) (list []int, err error) {
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, err
		}
		list = append(list, int(n))
	}
	return list, nil
}

// bracketed returns what stands in the brackets that text begins with.
func bracketed(text string) (inside, rest string, ok bool) {
	if text == "" || text[0] != '{' && text[0] != '(' {
		return "", text, false
	}
	open, end := text[0], byte('}')
	if open == '(' {
		end = ')'
	}
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case open:
			depth++
		case end:
			if depth--; depth == 0 {
				return text[1:i], text[i+1:], true
			}
		}
	}
	return "", text, false
}

func nameLen(text string) int {
	n := 0
	for n < len(text) && (isAlnum(text[n]) || text[n] == '_') {
		n++
	}
	return n
}

func isAlnum(b byte) bool { return '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z' }

// words splits a list at blanks and commas, but not inside braces.
func words(text string) []string {
	var list []string
	for {
		text = strings.TrimLeft(text, blanks+",")
		if text == "" {
			return list
		}
		depth, n := 0, 0
		for n < len(text) && (depth > 0 || strings.IndexByte(blanks+",", text[n]) < 0) {
			switch text[n] {
			case '{':
				depth++
			case '}':
				depth--
			}
			n++
		}
		list = append(list, text[:n])
		text = text[n:]
	}
}
