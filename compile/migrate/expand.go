package migrate

import (
	"regexp"
	"strings"

	"smtpd/ast/old"
	"smtpd/lang/diag"
)

// expand converts a string with expansions.
func (c *converter) expand(s *old.Str) string {
	switch d := c.file.Dialect; {
	case d.Generation() == 1:
		return c.expand1(s.Text)
	case d == old.D53:
		return c.expand53(s.Text)
	}
	for _, token := range []string{"dest.user", "rcpt.user", "sender.user"} {
		if strings.Contains(s.Text, "%{"+token) {
			c.once(diag.Portability, "migrate-expansion", "`/` and `^` in the user part of an address became a colon here; now they stay")
		}
	}
	return s.Text
}

var expansion = regexp.MustCompile(`%\{([a-z.]+)(\[[^\]}]*\])?(:[^}]*)?\}`)

// expand53 converts the expansions of 5.3, whose values were in lower case.
func (c *converter) expand53(text string) string {
	if c.opts.Guessed && strings.Contains(text, "%{") {
		c.once(diag.Portability, "migrate-lower-case", "release 5.3 put values into paths and commands in lower case, which is kept; 5.4 did not").
			Help = []string{"if the file was written for 5.4, say --generation 5.4"}
	}
	return expansion.ReplaceAllStringFunc(text, func(e string) string {
		part := expansion.FindStringSubmatch(e)
		switch {
		case part[2] != "":
			c.once(diag.Warning, "migrate-expansion", "a part of a value was in lower case; now it stays as it is, since a modifier cannot follow")
			return e
		case part[3] != "":
			return e
		}
		return "%{" + part[1] + ":lowercase}"
	})
}

// letters are the expansions of generation 1.
var letters = map[byte]string{
	'u': "user.username", 'a': "dest.user", 'd': "dest.domain", 'A': "sender.user", 'U': "sender.user", 'D': "sender.domain",
}

// expand1 converts the expansions of generation 1: %u and the like, with a
// digit for one character.
func (c *converter) expand1(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		at := i + 1
		digit := ""
		if ch := text[at]; ch >= '0' && ch <= '9' && at+1 < len(text) {
			digit = text[at : at+1]
			at++
		}
		value, known := letters[text[at]]
		switch {
		case !known && (text[i+1] == '{' || text[i+1] == '%'):
			b.WriteString("%%")
			continue
		case !known:
			b.WriteByte('%')
			continue
		case digit != "":
			c.once(diag.Warning, "migrate-expansion", "a character of a value was in lower case; now it stays as it is")
			b.WriteString("%{" + value + "[" + digit + "]}")
		case text[at] == 'u':
			b.WriteString("%{" + value + "}")
		default:
			b.WriteString("%{" + value + ":lowercase}")
		}
		i = at
	}
	return b.String()
}
