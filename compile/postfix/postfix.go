// Package postfix turns the settings of Postfix into a configuration of
// smtpd, as text: main.cf and master.cf of Postfix 3.7 with the files that
// they name, as far as those can be read.
//
// What cannot be carried over is said as a finding, and left out in the way
// that accepts less: the result never relays for anybody for whom Postfix did
// not. What the settings do not say, because Postfix has a default, counts as
// said.
package postfix

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Options say what to import.
type Options struct {
	// Dir is the directory with main.cf and master.cf, as the user named it.
	Dir string

	// ReadFile reads a file below Dir. One that is not there is an error for
	// which errors.Is(err, fs.ErrNotExist).
	ReadFile func(path string) ([]byte, error)

	// Host is asked for the files that are elsewhere.
	Host compile.Host

	// ServerName is the name of the host; "" if it is not known.
	ServerName string
}

// A Result is the configuration and what is to be said of it.
type Result struct {
	Text  []byte // nil if there is none
	Set   *token.FileSet
	Notes diag.List // of class Language if there is no Text
}

// Import reads the settings in a directory. The error is one of reading the
// files.
func Import(o Options) (*Result, error) {
	im := &importer{
		opts: o, set: token.NewFileSet(),
		tables: make(map[string]string), taken: make(map[string]bool),
		used: make(map[string]bool), said: make(map[string]bool),
		actions:     make(map[string]string),
		milterNames: make(map[string]string), chains: make(map[string]string),
	}
	r := &Result{Set: im.set}
	err := im.read()
	var syntax *syntaxError
	switch {
	case errors.As(err, &syntax):
		r.Notes.Errorf(token.At(syntax.at), "postfix-syntax", "Postfix cannot read this: %s", syntax.msg)
		return r, nil
	case err != nil:
		return nil, err
	}
	im.convert()
	r.Notes = im.notes
	slices.SortStableFunc(r.Notes, func(a, b *diag.Diagnostic) int {
		x, y := a.Span.Start, b.Span.Start
		if x.IsValid() != y.IsValid() {
			return cmp.Compare(y.Line, x.Line) // what has no place comes last
		}
		return cmp.Or(strings.Compare(x.Filename, y.Filename), cmp.Compare(x.Line, y.Line))
	})
	if im.broken {
		return r, nil
	}
	r.Text = []byte(im.text())
	return r, nil
}

type importer struct {
	opts     Options
	set      *token.FileSet
	notes    diag.List
	broken   bool // a value could not be expanded
	main     *scope
	order    []*param
	services []*service

	accesses []*access // of the lists of main.cf

	used map[string]bool // parameters that were asked for
	said map[string]bool // what was said already

	settings, certs, decls, filters, listens []string
	defs, rules                              []string
	tables                                   map[string]string // the table of a map
	taken                                    map[string]bool   // names
	actions                                  map[string]string // name by definition
	milterNames                              map[string]string // name of a filter by definition
	chains                                   map[string]string // the filter for a list of milters
}

// read reads main.cf and master.cf.
func (im *importer) read() error {
	name := path.Join(im.opts.Dir, "main.cf")
	text, err := im.opts.ReadFile(name)
	if err != nil {
		return err
	}
	im.set.AddSource(name, text, token.Pos{})
	if im.main, im.order, err = readMain(name, text); err != nil {
		return err
	}
	im.main.server = im.opts.ServerName
	name = path.Join(im.opts.Dir, "master.cf")
	text, err = im.opts.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		im.note(nil, diag.Warning, "postfix-service", "there is no master.cf: it is taken for granted that one service listens, on port smtp")
		text = []byte("smtp inet n - y - - smtpd\n")
	case err != nil:
		return err
	}
	im.set.AddSource(name, text, token.Pos{})
	im.services, err = readMaster(name, text, im.main)
	return err
}

// note says something about a parameter, or about all if p is nil.
func (im *importer) note(p *param, class diag.Class, code diag.Code, format string, args ...any) *diag.Diagnostic {
	at := token.Span{}
	if p != nil {
		at = token.At(p.at)
		at.End.Column += len(p.name)
	}
	text := fmt.Sprintf(format, args...)
	key := at.String() + string(code) + text
	if im.said[key] {
		return &diag.Diagnostic{}
	}
	im.said[key] = true
	return im.notes.Reportf(class, at, code, "%s", text)
}

// get returns the value of a parameter in a scope.
func (im *importer) get(s *scope, name string) string {
	im.used[name] = true
	value, err := s.value(name)
	if err != nil {
		p := s.lookup(name)
		im.note(p, diag.Language, "postfix-syntax", "Postfix cannot read this: %v", err)
		im.broken = true
		return ""
	}
	return value
}

// value returns the value of a parameter of main.cf.
func (im *importer) value(name string) string { return im.get(im.main, name) }

// yes reports whether a parameter is yes in a scope.
func (im *importer) yes(s *scope, name string) bool {
	return strings.EqualFold(im.get(s, name), "yes")
}

// text puts the parts together in the order that the language asks for.
func (im *importer) text() string {
	var b strings.Builder
	b.WriteString("# Converted from main.cf and master.cf of Postfix.\n")
	for _, part := range [][]string{im.settings, im.certs, im.decls, im.filters, im.listens, im.defs, im.rules} {
		if len(part) == 0 {
			continue
		}
		b.WriteByte('\n')
		for _, line := range part {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// convert makes the parts.
func (im *importer) convert() {
	im.limits()
	im.policy()
	im.names()
	im.rest()
}

// name returns a name that no table has yet.
func (im *importer) name(base string) string {
	name := base
	for i := 2; im.taken[name]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	im.taken[name] = true
	return name
}

// action returns the name of the action with a definition.
func (im *importer) action(base, def string) string {
	if name, ok := im.actions[def]; ok {
		return name
	}
	name := im.name("action " + base)
	name = strings.TrimPrefix(name, "action ")
	im.actions[def] = name
	im.defs = append(im.defs, "action "+quote(name)+" "+def)
	return name
}

// spec returns how a file of a table is written: without quotes unless they
// are needed, as people do.
func spec(file string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+:@", r)
	}
	if strings.IndexFunc(file, func(r rune) bool { return !plain(r) }) >= 0 {
		return quote("file:" + file)
	}
	return "file:" + file
}

// quote returns text as a string of the language. No text that gets here has
// both quotes, or a backslash.
func quote(text string) string {
	if strings.Contains(text, `"`) {
		return "'" + text + "'"
	}
	return `"` + text + `"`
}

// quotable reports whether text can be a string of the language.
func quotable(text string) bool {
	if len(text) > 1000 || strings.Contains(text, `\`) || strings.Contains(text, `"`) && strings.Contains(text, "'") {
		return false
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			return false
		}
	}
	return true
}

// isDomain reports whether text can be the name of a domain or a host.
func isDomain(text string) bool {
	if text == "" || len(text) > 253 || strings.Contains(text, "..") || strings.Trim(text, ".-") != text {
		return false
	}
	for i := range len(text) {
		if !isAlnum(text[i]) && strings.IndexByte("-._", text[i]) < 0 {
			return false
		}
	}
	return true
}

// isPath reports whether text is a path that the language can name.
func isPath(text string) bool {
	return strings.HasPrefix(text, "/") && quotable(text) && !strings.ContainsAny(text, " \t%")
}
