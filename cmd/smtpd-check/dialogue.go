package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// dialogue reads the lines of a client in an SMTP session, which may begin
// with "C:", and calls visit with what each RCPT makes of d. Lines of a
// server ("S:", or a reply code) are passed over, and so is the message.
func dialogue(r io.Reader, d described, visit func(described) error) error {
	lines := bufio.NewScanner(r)
	message := false
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if rest, ok := strings.CutPrefix(line, "C:"); ok {
			line = strings.TrimSpace(rest)
		} else if fromServer(line) {
			continue
		}
		if message {
			message = line != "."
			continue
		}
		isRcpt, err := d.command(line)
		if err == nil && isRcpt {
			err = visit(d)
		}
		if err != nil {
			return fmt.Errorf("line %d of the dialogue: %w", n, err)
		}
		message = strings.EqualFold(line, "DATA")
	}
	return lines.Err()
}

func fromServer(line string) bool {
	if line == "" || strings.HasPrefix(line, "S:") {
		return true
	}
	return len(line) >= 3 && strings.Trim(line[:3], "0123456789") == "" && (len(line) == 3 || line[3] == ' ' || line[3] == '-')
}

// command applies a command of the client, and reports whether it names a
// recipient.
func (d *described) command(line string) (isRcpt bool, err error) {
	verb, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToUpper(verb) {
	case "HELO", "EHLO":
		if rest == "" {
			return false, fmt.Errorf("%s needs a name", verb)
		}
		d.Helo, d.MailFrom = rest, ""
	case "STARTTLS":
		d.TLS = true
	case "AUTH":
		d.Auth, err = plainUser(rest)
	case "MAIL":
		d.MailFrom, err = path(rest, "FROM:")
	case "RCPT":
		d.RcptTo, err = path(rest, "TO:")
		return true, err
	case "RSET":
		d.MailFrom = ""
	case "DATA", "NOOP", "QUIT":
	default:
		err = fmt.Errorf("%q is no command that is understood here: EHLO, HELO, STARTTLS, AUTH PLAIN, MAIL, RCPT, RSET, DATA, NOOP, QUIT", verb)
	}
	return false, err
}

// path returns the address in the argument of MAIL or RCPT; parameters after
// it decide nothing.
func path(arg, word string) (string, error) {
	if len(arg) < len(word) || !strings.EqualFold(arg[:len(word)], word) {
		return "", fmt.Errorf("%q does not begin with %s", arg, word)
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(arg[len(word):]), "<")
	// A quoted local part may hold the bracket.
	quoted := false
	for i := 0; ok && i < len(text); i++ {
		switch {
		case text[i] == '\\' && quoted:
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == '>' && !quoted:
			return text[:i], nil
		}
	}
	return "", fmt.Errorf("no address in <> after %s", word)
}

// plainUser returns whom AUTH PLAIN with an initial response names.
func plainUser(arg string) (string, error) {
	mechanism, response, _ := strings.Cut(arg, " ")
	if !strings.EqualFold(mechanism, "PLAIN") || response == "" {
		return "", errors.New("only AUTH PLAIN with its response says who it is; name the user with --auth")
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(response))
	parts := strings.Split(string(text), "\x00")
	if err != nil || len(parts) != 3 || parts[1] == "" {
		return "", errors.New("the response of AUTH PLAIN names no user")
	}
	return parts[1], nil
}
