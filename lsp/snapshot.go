package lsp

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A snapshot is what was found in one configuration: a document that no
// other one includes, and all that it includes.
type snapshot struct {
	root   *document
	file   *ast.File
	parsed diag.List // what the parser complained about
	report *diag.Report
	names  []occurrence
	server *server

	cache map[string]*lines // by the name of the file
}

// refresh reads all documents anew and publishes what is found.
func (s *server) refresh() {
	uris := slices.Sorted(maps.Keys(s.docs))
	all := make([]*snapshot, 0, len(uris))
	for _, uri := range uris {
		all = append(all, s.snapshot(s.docs[uri]))
	}
	s.snapshots = s.snapshots[:0]
	for _, snap := range all {
		if !includedByAnother(snap, all) {
			s.snapshots = append(s.snapshots, snap)
		}
	}
	s.publish()
}

// includedByAnother reports whether snap is a part of another configuration.
// Of two that include each other the first is not.
func includedByAnother(snap *snapshot, all []*snapshot) bool {
	before := true
	for _, other := range all {
		if other == snap {
			before = false
		} else if other.reads(snap.root.path) && (before || !snap.reads(other.root.path)) {
			return true
		}
	}
	return false
}

// maxFindings bounds what is shown of one configuration.
const maxFindings = 1000

func (s *server) snapshot(d *document) *snapshot {
	snap := &snapshot{root: d, server: s, cache: make(map[string]*lines)}
	snap.file, snap.parsed = lang.Parse(d.path, snap.options([]byte(d.text)))
	rules, compiled := compile.Draft(snap.file, s.config.Host)
	snap.report = &diag.Report{File: d.path, Set: snap.file.Set, List: diag.Merge(snap.file.Set, snap.parsed, compiled)}
	if snap.parsed.Has(diag.Language) {
		rules = nil
	}
	if s.config.Review != nil {
		s.config.Review(snap.file, rules, snap.report)
	}
	snap.report.Cap(maxFindings)
	snap.names = occurrences(snap.file)
	return snap
}

// options returns how text is read in the place of the root.
func (s *snapshot) options(text []byte) lang.Options {
	if text == nil {
		text = []byte{}
	}
	return lang.Options{Defines: s.server.config.Defines, Open: s.server.open, Text: text}
}

// open returns the text of an included file: that in the editor, else that
// on disk.
func (s *server) open(path string) ([]byte, error) {
	if d := s.opened(absolute(path)); d != nil {
		return []byte(d.text), nil
	}
	// Not a terminal, a pipe or the stream that the client speaks on.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	return lang.ReadFile(path)
}

// opened returns the open document of a file, or nil.
func (s *server) opened(path string) *document {
	for _, d := range s.docs {
		if d.path == path {
			return d
		}
	}
	return nil
}

// absolute returns the path for the name of a file. A relative one is read
// from where the server was started, as the mail server does.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// reads reports whether the file at a path is part of the configuration
// without being its root.
func (s *snapshot) reads(path string) bool {
	if path == s.root.path {
		return false
	}
	return slices.ContainsFunc(s.includes(), func(name string) bool { return absolute(name) == path })
}

// includes returns the names of the included files.
func (s *snapshot) includes() []string {
	var names []string
	for _, st := range s.file.Stmts {
		if st.Include == nil {
			continue
		}
		if _, ok := s.file.Set.Source(st.Include.Path.Text); ok && !slices.Contains(names, st.Include.Path.Text) {
			names = append(names, st.Include.Path.Text)
		}
	}
	return names
}

// uri returns the URI of a file by the name it has in places: of an open one
// as the client writes it.
func (s *snapshot) uri(name string) string {
	if name == s.root.path || name == "" {
		return s.root.uri
	}
	path := absolute(name)
	if d := s.server.opened(path); d != nil {
		return d.uri
	}
	return uriOf(path)
}

func (s *snapshot) linesOf(name string) *lines {
	l := s.cache[name]
	if l == nil {
		l = newLines(s.file.Set.Text(name))
		s.cache[name] = l
	}
	return l
}

func (s *snapshot) location(span token.Span) location {
	name := span.Start.Filename
	if name == "" {
		name = s.root.path
	}
	return location{s.uri(name), s.linesOf(name).span(span)}
}

// is reports whether a file of the configuration, by its name in places, is
// the document d.
func (s *snapshot) is(name string, d *document) bool {
	if d == s.root {
		return name == d.path || name == ""
	}
	return absolute(name) == d.path
}

// publish sends the findings of all documents, and takes back those in files
// that are good or gone.
func (s *server) publish() {
	found := make(map[string][]diagnostic)
	for _, snap := range s.snapshots {
		for _, d := range snap.report.List {
			at := snap.location(d.Span)
			found[at.URI] = append(found[at.URI], snap.diagnostic(d))
		}
	}
	for uri := range s.docs {
		found[uri] = append([]diagnostic{}, found[uri]...)
	}
	for uri := range s.published {
		if _, ok := found[uri]; !ok {
			found[uri] = []diagnostic{}
		}
	}
	for _, uri := range slices.Sorted(maps.Keys(found)) {
		s.notify("textDocument/publishDiagnostics", publishParams{uri, found[uri]})
		if len(found[uri]) > 0 {
			s.published[uri] = true
		} else {
			delete(s.published, uri)
		}
	}
}

// Severities of the protocol.
const (
	severityError       = 1
	severityWarning     = 2
	severityInformation = 3
	severityHint        = 4
)

var severities = map[diag.Class]int{
	diag.Language:    severityError,
	diag.Security:    severityError, // it fails a check, too
	diag.Warning:     severityWarning,
	diag.Host:        severityInformation,
	diag.Portability: severityInformation,
	diag.Style:       severityHint,
}

// diagnostic returns a finding in the form of the protocol.
func (s *snapshot) diagnostic(d *diag.Diagnostic) diagnostic {
	out := diagnostic{
		Range:    s.location(d.Span).Range,
		Severity: severities[d.Class],
		Code:     string(d.Code),
		Source:   "smtpd-check",
		Message:  d.Message,
	}
	if d.Label != "" {
		out.Message += "\n" + d.Label
	}
	for _, h := range d.Help {
		out.Message += "\nhelp: " + h
	}
	for _, n := range d.Notes {
		if n.Span.Start.IsValid() {
			out.Related = append(out.Related, related{s.location(n.Span), n.Message})
		} else {
			out.Message += "\nnote: " + n.Message
		}
	}
	for _, f := range s.file.Set.Trace(d.Span.Start) {
		out.origin(s, f)
	}
	return out
}

// origin adds a step on the way to a finding: a macro or an include.
func (d *diagnostic) origin(s *snapshot, f token.Frame) {
	switch {
	case f.Kind == token.Include:
		d.Related = append(d.Related, related{s.location(token.At(f.Use)), "included from here"})
	case f.Def.IsValid():
		d.Related = append(d.Related, related{s.location(token.At(f.Def)), "in the text of macro " + f.Name + ", defined here"})
	default:
		d.Message += "\nnote: in the text of macro " + f.Name + ", defined on the command line"
	}
}
