package mta

import (
	"bufio"
	"fmt"
	"strings"
)

// What a host may say in one reply.
const (
	maxReplyLine  = 2048
	maxReplyLines = 128
	maxReplyText  = 2000 // that is kept
)

// A textError is an error in words that logs and reports have always shown.
type textError string

func (e textError) Error() string { return string(e) }

// Errors of a dialogue that has got out of step.
const (
	errTooLong  = textError("Input too long")
	errTooMuch  = textError("Remote host sent too much data")
	errClosed   = textError("Connection closed unexpectedly")
	errTimeout  = textError("Connection timeout")
	errContent  = textError("message could not be read")
	errBadReply = textError("Bad response")
)

// A reply is what a host answered to one command.
type reply struct {
	code   int
	status string   // enhanced status code; made up of the class if there is none
	text   string   // all of it as one line of printable ASCII
	lines  []string // the text of each line
}

func (r reply) ok() bool        { return r.code/100 == 2 }
func (r reply) permanent() bool { return r.code/100 == 5 }

// readReply reads one reply. Nothing that it returns holds a control
// character, and it reads no more than it must.
func readReply(r *bufio.Reader) (reply, error) {
	var first reply
	for n := 0; ; n++ {
		if n == maxReplyLines {
			return reply{}, errTooLong
		}
		line, err := r.ReadSlice('\n')
		switch {
		case err == bufio.ErrBufferFull || len(line) >= maxReplyLine:
			return reply{}, errTooLong
		case err != nil:
			return reply{}, err
		}
		text := printable(strings.TrimRight(string(line), "\r\n"))
		code, more, rest, ok := splitReply(text)
		if !ok || n > 0 && code != first.code {
			return reply{}, fmt.Errorf("%w: %s", errBadReply, shorten(text, 200))
		}
		if n == 0 {
			first = reply{code: code, status: statusOf(code, rest), text: text}
		} else if len(first.text) < maxReplyText {
			first.text = strings.TrimRight(first.text, " ") + " " + withoutStatus(rest, first.status)
		}
		first.lines = append(first.lines, rest)
		if !more {
			first.text = shorten(strings.TrimSpace(first.text), maxReplyText)
			return first, nil
		}
	}
}

// splitReply takes a line of a reply apart; more says that another follows.
func splitReply(line string) (code int, more bool, rest string, ok bool) {
	if len(line) < 3 {
		return 0, false, "", false
	}
	for i := range 3 {
		if line[i] < '0' || line[i] > '9' {
			return 0, false, "", false
		}
		code = code*10 + int(line[i]-'0')
	}
	if code < 200 || code > 599 {
		return 0, false, "", false
	}
	switch {
	case len(line) == 3:
		return code, false, "", true
	case line[3] == ' ', line[3] == '-':
		return code, line[3] == '-', line[4:], true
	}
	return 0, false, "", false
}

// statusOf returns the enhanced status code with which text begins (RFC 3463,
// section 2), or one that says no more than the class of code. A status whose
// class contradicts the code is a slip; the code decides what happens.
func statusOf(code int, text string) string {
	word, _, _ := strings.Cut(text, " ")
	if validStatus(word) && int(word[0]-'0') == code/100 {
		return word
	}
	return fmt.Sprintf("%d.0.0", code/100)
}

func validStatus(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || !strings.Contains("245", parts[0]) {
		return false
	}
	for _, p := range parts[1:] {
		if len(p) < 1 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// withoutStatus returns the text of a further line without the enhanced code
// that the first line had already.
func withoutStatus(text, status string) string {
	if rest, ok := strings.CutPrefix(text, status); ok && (rest == "" || rest[0] == ' ') {
		return strings.TrimSpace(rest)
	}
	return text
}

// printable replaces every byte that is no printable ASCII.
func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

func shorten(s string, n int) string { return s[:min(len(s), n)] }
