package migrate

import (
	"strings"

	"smtpd/ast/old"
)

// quote returns text as a string token.
func quote(text string) string {
	q := byte('"')
	if strings.Contains(text, `"`) && !strings.Contains(text, "'") {
		q = '\''
	}
	var b strings.Builder
	b.WriteByte(q)
	for i := 0; i < len(text); i++ {
		ch := text[i]
		// After a backslash a blank needs one of its own, as the quote
		// always does.
		if ch == q || (ch == ' ' || ch == '\t') && i > 0 && text[i-1] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(ch)
	}
	b.WriteByte(q)
	return b.String()
}

// bare reports whether text can stand without quotes and reads better so.
func (c *converter) bare(text string) bool { return plainWord(text) && !c.opts.Reserved(text) }

// plainWord reports whether a bare word can be text, keywords aside.
func plainWord(text string) bool {
	for i := 0; i < len(text); i++ {
		if !isAlnum(text[i]) && text[i] != '_' && (i == 0 || !strings.Contains("-.:@/+", text[i:i+1])) {
			return false
		}
	}
	return strings.Trim(text, "0123456789-") != ""
}

func isAlnum(ch byte) bool {
	return ch >= '0' && ch <= '9' || ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z'
}

// keeps reports whether a reference means the same in the result.
func (c *converter) keeps(reference string) bool {
	if reference == "" || c.opts.Inline || c.inline {
		return false
	}
	name := reference[1:]
	for i := 0; i < len(name); i++ {
		if !isAlnum(name[i]) && name[i] != '_' {
			name = name[:i]
			break
		}
	}
	m, defined := c.macros[name]
	glued := len(name)+1 < len(reference)
	switch {
	case !defined: // of the command line, or not kept
		return !c.defines(name)
	case glued: // the end of the word might make a keyword no more, or one
		return m.Shape == old.PlainShape && !strings.ContainsAny(m.Value.Text, `"'{`)
	}
	return true
}

// defines reports whether the file defines a macro.
func (c *converter) defines(name string) bool {
	for _, s := range c.file.Stmts {
		if s.Macro != nil && s.Macro.Name.Text == name {
			return true
		}
	}
	return false
}

// str returns a string as a token.
func (c *converter) str(s *old.Str) string {
	switch {
	case c.keeps(s.Macro):
		return s.Macro
	case s.Number:
		return s.Text
	case s.Quoted:
		return quote(s.Text)
	}
	return c.quoteName(s.Text)
}

// name is str for what reads better without quotes.
func (c *converter) name(s *old.Str) string {
	if !c.keeps(s.Macro) && !s.Number && c.bare(s.Text) {
		return s.Text
	}
	return c.str(s)
}

// quoteName returns a name, without quotes if it needs none.
func (c *converter) quoteName(text string) string {
	if c.bare(text) {
		return text
	}
	return quote(text)
}

// changed is str for a text that was made of s.
func (c *converter) changed(s *old.Str, text string) string {
	if text == s.Text {
		return c.str(s)
	}
	return quote(text)
}

// list returns elements in braces.
func (c *converter) list(elems []*old.Elem) string {
	words := make([]string, len(elems))
	for i, e := range elems {
		words[i] = c.str(&e.Key)
		if e.Value != nil {
			words[i] += " = " + c.str(e.Value)
		}
	}
	return "{ " + strings.Join(words, ", ") + " }"
}

// arg returns a table as an argument.
func (c *converter) arg(t *old.TableArg) string {
	switch {
	case c.keeps(t.Macro):
		return t.Macro
	case t.Ref != nil:
		return "<" + c.name(t.Ref) + ">"
	case !t.Braces:
		return c.str(&t.Elems[0].Key)
	}
	return c.list(t.Elems)
}
