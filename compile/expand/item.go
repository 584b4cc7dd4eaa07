package expand

import (
	"errors"
	"fmt"
	"strings"

	"smtpd/compile/engine"
)

// A Kind says what an item of an alias, a virtual map, a .forward or an
// include file is.
type Kind uint8

// The kinds of items.
const (
	Error   Kind = iota + 1 // Text is the reply line, "550 no such list"
	Include                 // Text is the path
	Command                 // Text is the command
	File                    // Text is the path
	Address                 // Addr
	User                    // Text is the name, in lower case
)

var kindNames = [...]string{"", "error", "include", "command", "file", "address", "user"}

// String returns the name of k.
func (k Kind) String() string { return kindNames[k] }

// An Item is one thing that a name expands to.
type Item struct {
	Kind Kind
	Text string
	Addr engine.Address
}

var (
	errQuote = errors.New("quote is not closed")
	errEmpty = errors.New("there is nothing in the list")
	errItem  = errors.New("not a command, file, include, error, address or user name")
)

// CheckList returns an error unless line is a list of items, as the value of
// an alias is, that holds any.
func CheckList(line string) error {
	items, err := parseList(line)
	if err == nil && len(items) == 0 {
		err = errEmpty
	}
	return err
}

// parseList returns the items of a line: they are separated by commas
// outside quotes, and a backslash takes the next character as it is. One bad
// item spoils the line: whoever wrote it meant something else.
func parseList(line string) ([]Item, error) {
	var items []Item
	for len(line) > 0 {
		text, rest, err := cutItem(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", clip(line), err)
		}
		line = rest
		if text = strings.Trim(text, blanks); text == "" {
			continue
		}
		it, ok := parseItem(text)
		if !ok {
			return nil, fmt.Errorf("%q: %w", clip(text), errItem)
		}
		items = append(items, it)
	}
	return items, nil
}

const blanks = " \t\r\n\v\f"

// cutItem returns the text of the first item of line, without its escapes
// but with its quotes, and what follows the comma.
func cutItem(line string) (text, rest string, err error) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && i+1 < len(line):
			i++
			c = line[i]
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == ',':
			return b.String(), line[i+1:], nil
		}
		b.WriteByte(c)
	}
	if quote != 0 {
		return "", "", errQuote
	}
	return b.String(), "", nil
}

// parseItem recognises the forms of language.md 5.7 in their order. Every
// form is a whitelist: what it does not know is refused, never passed on.
func parseItem(s string) (Item, bool) {
	if reply, ok := cutKeyword(s, "error:"); ok && isReply(reply) {
		return Item{Kind: Error, Text: reply}, true
	}
	if path, ok := cutKeyword(s, "include:"); ok && isPath(path) {
		return Item{Kind: Include, Text: path}, true
	}
	if command, ok := cutCommand(s); ok {
		return Item{Kind: Command, Text: command}, isPrintable(strings.ReplaceAll(command, "\t", " "))
	}
	if s[0] == '/' {
		return Item{Kind: File, Text: s}, isPath(s)
	}
	if user, domain, ok := strings.Cut(s, "@"); ok {
		return Item{Kind: Address, Addr: engine.Address{User: user, Domain: domain}}, IsLocalPart(user) && IsDomain(domain)
	}
	return Item{Kind: User, Text: strings.ToLower(s)}, isUserName(s)
}

// cutKeyword cuts keyword, in any case and with or without a colon before
// it, off the start of s.
func cutKeyword(s, keyword string) (rest string, ok bool) {
	s = strings.TrimPrefix(s, ":")
	if len(s) < len(keyword) || !strings.EqualFold(s[:len(keyword)], keyword) {
		return "", false
	}
	return s[len(keyword):], true
}

// cutCommand returns the command of "|command", of which the whole may be
// quoted. An empty command is none: run by a shell it would succeed, and the
// mail would be gone.
func cutCommand(s string) (command string, ok bool) {
	if strings.HasPrefix(s, `"|`) && len(s) > 2 && strings.HasSuffix(s, `"`) {
		s = s[1 : len(s)-1]
	}
	if !strings.HasPrefix(s, "|") {
		return "", false
	}
	command = strings.Trim(s[1:], blanks)
	return command, command != ""
}

// isReply reports whether s is a reply line that an alias may give: a code of
// 4 or 5 hundred, one space and a text.
func isReply(s string) bool {
	return len(s) >= 5 && (s[0] == '4' || s[0] == '5') && isDigit(s[1]) && isDigit(s[2]) &&
		s[3] == ' ' && (isDigit(s[4]) || isLetter(s[4])) && isPrintable(s)
}

func isPath(s string) bool { return len(s) > 1 && s[0] == '/' && isPrintable(s) }

// isPrintable reports whether s has no control characters. Bytes beyond
// ASCII pass: paths and commands may be written in any language.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// IsDomain reports whether s may be the domain of an address.
func IsDomain(s string) bool { return s != "" && len(s) <= 255 && consists(s, "-.") }

func isUserName(s string) bool { return s != "" && len(s) <= 255 && consists(s, "_.-+") }

// consists reports whether s has only letters, digits and the bytes of marks.
func consists(s, marks string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && strings.IndexByte(marks, c) < 0 {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }

// String returns the item as a list would hold it.
func (it Item) String() string {
	s := it.Text
	switch it.Kind {
	case Error:
		s = "error:" + s
	case Include:
		s = ":include:" + s
	case Command:
		s = "|" + s
	case Address:
		s = it.Addr.User + "@" + it.Addr.Domain
	}
	return listEscaper.Replace(s)
}

var listEscaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `"`, `\"`, `'`, `\'`)

// parseFile returns the items of a .forward or an include file: a list on
// each line, where a backslash continues a line and # starts a comment.
// Includes in it are ignored: they do not nest.
func parseFile(text string) ([]Item, error) {
	var items []Item
	for text != "" {
		var line string
		line, text = cutLine(text)
		list, err := parseList(line)
		if err != nil {
			return nil, err
		}
		for _, it := range list {
			if it.Kind != Include {
				items = append(items, it)
			}
		}
	}
	return items, nil
}

// cutLine returns the first logical line of text, joined and without its
// comment, and the rest of the text. Other escapes are left to the list.
func cutLine(text string) (line, rest string) {
	var b strings.Builder
	comment := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			return b.String(), text[i+1:]
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] == '\n' {
				continue
			}
			if !comment {
				b.WriteString(text[i-1 : i+1])
			}
		case c == '#':
			comment = true
		case !comment:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}

// clip shortens text for a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
