package diag

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"

	"smtpd/lang/token"
)

// JSONVersion is the version of what JSON writes. A member may be added
// without a new version; one that goes or changes its meaning needs it.
const JSONVersion = 1

type jsonReport struct {
	Version int        `json:"version"`
	Files   []jsonFile `json:"files"`
}

type jsonFile struct {
	File     string        `json:"file"`
	Findings []jsonFinding `json:"findings"`
	Hidden   int           `json:"hidden,omitempty"`
}

type jsonFinding struct {
	Code    Code        `json:"code"`
	Class   string      `json:"class"`
	Message string      `json:"message"`
	Label   string      `json:"label,omitempty"`
	Span    *jsonSpan   `json:"span,omitempty"`
	Notes   []jsonNote  `json:"notes,omitempty"`
	Help    []string    `json:"help,omitempty"`
	Origin  []jsonFrame `json:"origin,omitempty"`
	Fixes   []jsonFix   `json:"fixes,omitempty"`
}

type jsonSpan struct {
	File  string  `json:"file"`
	Start jsonPos `json:"start"`
	End   jsonPos `json:"end"`
}

// jsonPos is a place: columns count bytes, the other two are for programs
// that count characters or UTF-16 units.
type jsonPos struct {
	Line      int `json:"line"`
	Column    int `json:"column"`
	Character int `json:"character_column"`
	UTF16     int `json:"utf16_column"`
}

type jsonNote struct {
	Message string    `json:"message"`
	Span    *jsonSpan `json:"span,omitempty"`
}

type jsonFrame struct {
	Kind string    `json:"kind"`
	Name string    `json:"name"`
	Use  *jsonSpan `json:"use,omitempty"`
	Def  *jsonSpan `json:"definition,omitempty"`
}

type jsonFix struct {
	Message string     `json:"message"`
	Grade   string     `json:"grade"`
	Edits   []jsonEdit `json:"edits"`
}

type jsonEdit struct {
	Span *jsonSpan `json:"span"`
	New  string    `json:"new"`
}

// JSON writes reports as one object:
//
//	{"version": 1, "files": [{"file": "...", "findings": [...], "hidden": 0}]}
//
// A finding has code, class and message, and where they exist label, span,
// notes, help, origin (macros and includes, innermost first) and fixes.
func JSON(w io.Writer, reports []*Report) error {
	out := jsonReport{Version: JSONVersion, Files: []jsonFile{}}
	for _, r := range reports {
		f := jsonFile{File: r.File, Findings: []jsonFinding{}, Hidden: r.Hidden}
		for _, d := range r.List {
			f.Findings = append(f.Findings, r.jsonFinding(d))
		}
		out.Files = append(out.Files, f)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

func (r *Report) jsonFinding(d *Diagnostic) jsonFinding {
	f := jsonFinding{
		Code: d.Code, Class: d.Class.String(), Message: d.Message, Label: d.Label,
		Span: r.jsonSpan(d.Span), Help: d.Help,
	}
	for _, n := range d.Notes {
		f.Notes = append(f.Notes, jsonNote{n.Message, r.jsonSpan(n.Span)})
	}
	for _, t := range r.trace(d.Span.Start) {
		f.Origin = append(f.Origin, jsonFrame{t.Kind.String(), t.Name, r.jsonSpan(token.At(t.Use)), r.jsonSpan(token.At(t.Def))})
	}
	for _, x := range d.Fixes {
		fix := jsonFix{Message: x.Message, Grade: x.Grade.String()}
		for _, e := range x.Edits {
			fix.Edits = append(fix.Edits, jsonEdit{r.jsonSpan(e.Span), e.New})
		}
		f.Fixes = append(f.Fixes, fix)
	}
	return f
}

// jsonSpan returns the form of a span, nil for an invalid one.
func (r *Report) jsonSpan(s token.Span) *jsonSpan {
	if !s.Start.IsValid() {
		return nil
	}
	end := s.End
	if !end.IsValid() || end.Filename != s.Start.Filename {
		end = s.Start
	}
	return &jsonSpan{s.Start.Filename, r.jsonPos(s.Start), r.jsonPos(end)}
}

func (r *Report) jsonPos(p token.Pos) jsonPos {
	c := r.columnsOf(p)
	return jsonPos{p.Line, c.bytes, c.runes, c.utf16}
}

// Types of the JUnit format, as build servers read it.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes reports as test results: a suite for each file, and a failed
// case for each finding that fails says should fail the run.
func JUnit(w io.Writer, reports []*Report, fails func(Class) bool) error {
	var out junitSuites
	for _, r := range reports {
		out.Suites = append(out.Suites, r.junit(fails))
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r *Report) junit(fails func(Class) bool) junitSuite {
	s := junitSuite{Name: r.File}
	for _, d := range r.List {
		c := junitCase{Class: r.File, Name: fmt.Sprintf("%s at %s", d.Code, r.place(d))}
		text := Printable(r.place(d)) + ": " + d.Class.String() + ": " + d.full()
		if fails(d.Class) {
			c.Failure = &junitFailure{string(d.Code), Printable(d.Message), text}
			s.Failures++
		} else {
			c.Out = text
		}
		s.Cases = append(s.Cases, c)
	}
	if len(s.Cases) == 0 {
		s.Cases = []junitCase{{Class: r.File, Name: "configuration"}}
	}
	s.Tests = len(s.Cases)
	return s
}

// place returns where a finding is, for a name.
func (r *Report) place(d *Diagnostic) string {
	if d.Span.Start.IsValid() {
		return d.Span.String()
	}
	return r.File
}
