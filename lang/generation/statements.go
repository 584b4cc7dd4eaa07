package generation

import (
	"slices"
	"strings"

	"smtpd/ast/old"
	"smtpd/lang"
)

// Macro takes NAME = VALUE if that is what the statement is.
func (r *Reader) Macro() *old.Macro {
	if len(r.toks) < 2 || !r.toks[1].Is("=") || !r.toks[0].IsString() {
		return nil
	}
	m := &old.Macro{Name: *r.Str()}
	r.Want("=")
	m.Value = *r.StrOrNumber()
	m.Shape, m.List = r.shape(m.Value.Text)
	return m
}

// shape says what the value of a macro reads as.
func (r *Reader) shape(value string) (old.Shape, *old.TableArg) {
	s, diags := lang.Scan("macro", lang.Options{Text: []byte("table m " + value)})
	if len(diags) > 0 || len(s.Statements) != 1 {
		return old.OtherShape, nil
	}
	v := Reader{Dialect: r.Dialect, Diags: &diags}
	v.Begin(s.Statements[0][2:])
	if len(v.toks) == 2 {
		switch t := v.peek(); {
		case t.Kind == lang.WordToken && lang.Keyword(t.Text):
			return old.KeywordShape, nil
		case t.IsString() || t.Kind == lang.NumberToken:
			return old.PlainShape, nil
		}
		return old.OtherShape, nil
	}
	if !v.Next("{") && !v.Next("(") {
		return old.OtherShape, nil
	}
	same := v.Next("{") && !slices.ContainsFunc(v.toks, func(t lang.Token) bool { return t.Kind == lang.WordToken && lang.Keyword(t.Text) })
	list := v.TableArg()
	switch {
	case !v.Ended() || v.Failed():
		return old.OtherShape, nil
	case same:
		return old.PlainShape, nil
	}
	return old.ListShape, list
}

// File returns a tree with what is the same for every grammar.
func File(s *lang.Scanned, d old.Dialect) *old.File {
	f := &old.File{Name: s.Name, Dialect: d, Set: s.Set, Files: s.Files}
	for _, c := range s.Comments {
		f.Comments = append(f.Comments, old.Comment(c))
	}
	return f
}

// Written returns the statement as it stands in its file, on one line.
func (r *Reader) Written(s *lang.Scanned) string {
	first, last := r.toks[0].Pos, r.End()
	if last.Filename != first.Filename {
		return ""
	}
	var lines []string
	for n := first.Line; n <= last.Line; n++ {
		line, _ := s.Set.Line(first.Filename, n)
		if n == last.Line {
			line = line[:min(len(line), last.Column-1)]
		}
		if n == first.Line {
			line = line[min(len(line), first.Column-1):]
		}
		lines = append(lines, line)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), " \t\n")
}

// Present takes a statement that is one of the present language too, in the
// words of the present language. No old release read it.
func (r *Reader) Present(s *lang.Scanned) *old.Present {
	if !slices.ContainsFunc(presentForms, func(form []string) bool { return r.matches(form) }) &&
		!(r.toks[0].Is("filter") && present(r.toks)) {
		return nil
	}
	p := &old.Present{Text: r.Written(s)}
	r.at = len(r.toks) - 1
	return p
}

// presentForms are the beginnings of statements of the present language that
// published files of generation 2 have; * is any token.
var presentForms = [][]string{
	{"smtp"}, {"mta"}, {"mda", "wrapper"}, {"mda", "limit"}, {"scheduler", "limit"}, {"srs"}, {"admd"}, {"proc"},
	{"bounce", "warn-interval"}, {"queue", "ttl"}, {"pki", "*", "cert"}, {"ca", "*", "cert"},
}

func (r *Reader) matches(form []string) bool {
	if len(r.toks) <= len(form) {
		return false
	}
	for i, w := range form {
		if w != "*" && !r.toks[i].Is(w) {
			return false
		}
	}
	return true
}

// HasTLS reports whether the scheme of a relay's URL demands TLS, so that
// verify may follow.
func HasTLS(url string) bool {
	scheme, _, ok := strings.Cut(url, "://")
	switch strings.TrimSuffix(strings.ToLower(scheme), "+auth") {
	case "tls", "smtps", "secure", "ssl", "tls+backup":
		return ok
	}
	return false
}
