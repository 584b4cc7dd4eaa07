package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/compile/oshost"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/generation"
)

// A source says for which host and with which macros a configuration is
// read.
type source struct {
	Define   []string `short:"D" sep:"none" placeholder:"NAME=VALUE" help:"Define a macro, as smtpd -D does."`
	Host     string   `placeholder:"FILE" xor:"host" help:"Facts about the mail host."`
	ThisHost bool     `xor:"host" help:"This machine is the mail host."`
	Strict   bool     `name:"strict-opensmtpd" help:"Refuse what OpenSMTPD does not know."`
}

// host returns the host for which to judge.
func (c *source) host() (compile.Host, error) {
	switch {
	case c.ThisHost:
		return oshost.New(), nil
	case c.Host == "":
		return hostfacts.Unnamed(), nil
	}
	text, err := os.ReadFile(c.Host)
	if err != nil {
		return nil, err
	}
	return hostfacts.Parse(c.Host, string(text), os.ReadFile)
}

// defines returns the macros of the command line. The value begins after the
// last equals sign, as in smtpd.
func (c *source) defines(s *streams) []lang.Define {
	var list []lang.Define
	for _, d := range c.Define {
		i := strings.LastIndexByte(d, '=')
		if i < 0 {
			fmt.Fprintf(s.err, "warn: -D %s: no = in it, ignored\n", d)
			continue
		}
		list = append(list, lang.Define{Name: d[:i], Value: d[i+1:]})
	}
	return list
}

// stdinName is what standard input is called in findings.
const stdinName = "(standard input)"

// read returns the name and the text of a configuration; "-" is standard
// input. Of what is too large, or has no end, it reads as much as makes the
// parser say so.
func (s *streams) read(path string) (name string, text []byte, err error) {
	if path == "-" {
		text, err = readSome(s.in)
		return stdinName, text, err
	}
	f, err := os.Open(path)
	if err != nil {
		return path, nil, err
	}
	defer f.Close()
	text, err = readSome(f)
	return path, text, err
}

func readSome(r io.Reader) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, lang.MaxInput+1))
}

// A loaded is a configuration that was read and compiled as far as it goes.
type loaded struct {
	report *diag.Report
	file   *ast.File
	rules  *compile.Ruleset // nil if the language is wrong
}

// load reads and compiles a configuration. The error is one of reading it.
func (c *source) load(s *streams, path string, host compile.Host) (*loaded, error) {
	name, text, err := s.read(path)
	if err != nil {
		return nil, err
	}
	if text == nil {
		text = []byte{}
	}
	opts := lang.Options{Defines: c.defines(s), Text: text}
	f, parsed := lang.Parse(name, opts)
	if old := generation.Refuse(parsed, name, opts); old != nil {
		return &loaded{&diag.Report{File: name, Set: f.Set, List: diag.List{old}}, f, nil}, nil
	}
	rules, compiled := compile.Draft(f, host)
	refused := c.Strict && compiled.Refuse("extension")
	if refused || parsed.Has(diag.Language) {
		rules = nil
	}
	list := diag.Merge(f.Set, parsed, compiled)
	if rules != nil {
		list = append(list, remarksOn(rules)...)
	}
	return &loaded{&diag.Report{File: name, Set: f.Set, List: list}, f, rules}, nil
}

// compiled reads and compiles a configuration that must have a rule table.
func (c *source) compiled(s *streams, path string) (*loaded, error) {
	host, err := c.host()
	if err != nil {
		return nil, err
	}
	l, err := c.load(s, path, host)
	if err != nil {
		return nil, err
	}
	return l, l.usable(s)
}

// answerable turns a bad configuration into what could not be done, for
// commands where status 1 is an answer: that there is no rule table does not
// say that strangers relay, or that a decision changes.
func answerable(err error) error {
	if errors.Is(err, outcome(bad)) {
		return outcome(broken)
	}
	return err
}

// usable returns the outcome of a bad configuration if there is no rule table,
// after it has printed why there is none.
func (l *loaded) usable(s *streams) error {
	if l.rules != nil {
		return nil
	}
	l.report.Cap(maxShown)
	if err := diag.Text(s.err, []*diag.Report{l.report}, false); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "smtpd-check: %s is bad, there is no rule table\n", diag.Printable(l.report.File))
	return outcome(bad)
}

// remarksOn returns what other releases make of a configuration that is good
// here.
func remarksOn(rs *compile.Ruleset) diag.List {
	var list diag.List
	if rs.Queue.KeyFromInput() {
		list = append(list, &diag.Diagnostic{
			Class: diag.Portability, Code: "queue-key-stdin",
			Message: "smtpd -n refuses a key that comes from standard input, though the server starts with it",
		})
	}
	return list
}

// colorful reports whether f is a terminal whose user wants colour.
func colorful(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
