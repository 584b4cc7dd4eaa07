package diag

import (
	"encoding/json"
	"io"
	"net/url"
	"path/filepath"

	"smtpd/lang/token"
)

// Types of SARIF 2.1.0, the parts that are used.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		Results    []sarifResult `json:"results"`
		ColumnKind string        `json:"columnKind"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID    Code          `json:"id"`
		Short *sarifMessage `json:"shortDescription,omitempty"`
		Help  *sarifMessage `json:"help,omitempty"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    Code            `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifMessage    `json:"message"`
		Locations []sarifLocation `json:"locations"`
		Related   []sarifLocation `json:"relatedLocations,omitempty"`
		Fixes     []sarifFix      `json:"fixes,omitempty"`
	}
	sarifLocation struct {
		ID       *int          `json:"id,omitempty"`
		Physical sarifPhysical `json:"physicalLocation"`
		Message  *sarifMessage `json:"message,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
		EndLine     int `json:"endLine"`
		EndColumn   int `json:"endColumn"`
	}
	sarifFix struct {
		Description sarifMessage  `json:"description"`
		Changes     []sarifChange `json:"artifactChanges"`
	}
	sarifChange struct {
		Artifact     sarifArtifact      `json:"artifactLocation"`
		Replacements []sarifReplacement `json:"replacements"`
	}
	sarifReplacement struct {
		Deleted  sarifRegion  `json:"deletedRegion"`
		Inserted sarifContent `json:"insertedContent"`
	}
	sarifContent struct {
		Text string `json:"text"`
	}
)

// A Page returns what is known of a code: a line that says what it is, and
// the text that explains it.
type Page func(Code) (title, text string)

// SARIF writes reports in the format of code scanners, SARIF 2.1.0.
func SARIF(w io.Writer, reports []*Report, version string, page Page) error {
	run := sarifRun{ColumnKind: "utf16CodeUnits", Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "smtpd-check", Version: version, Rules: []sarifRule{}}
	index := make(map[Code]int)
	for _, r := range reports {
		for _, d := range r.List {
			i, ok := index[d.Code]
			if !ok {
				i = len(run.Tool.Driver.Rules)
				index[d.Code] = i
				run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRuleOf(d.Code, page))
			}
			run.Results = append(run.Results, r.sarifResult(d, i))
		}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(sarifLog{
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	})
}

func sarifRuleOf(code Code, page Page) sarifRule {
	rule := sarifRule{ID: code}
	if title, text := page(code); title != "" {
		rule.Short, rule.Help = &sarifMessage{title}, &sarifMessage{text}
	}
	return rule
}

func sarifLevel(c Class) string {
	switch c {
	case Language, Security:
		return "error"
	case Warning:
		return "warning"
	}
	return "note"
}

func (r *Report) sarifResult(d *Diagnostic, rule int) sarifResult {
	res := sarifResult{
		RuleID: d.Code, RuleIndex: rule, Level: sarifLevel(d.Class),
		Message:   sarifMessage{d.full()},
		Locations: []sarifLocation{r.sarifLocation(d.Span)},
	}
	for _, n := range d.Notes {
		if n.Span.Start.IsValid() {
			at := r.sarifLocation(n.Span)
			id := len(res.Related)
			at.ID, at.Message = &id, &sarifMessage{n.Message}
			res.Related = append(res.Related, at)
		}
	}
	for _, f := range d.Fixes {
		if fix, ok := r.sarifFix(f); ok {
			res.Fixes = append(res.Fixes, fix)
		}
	}
	return res
}

// sarifLocation returns the place of a span, or the whole file for none.
func (r *Report) sarifLocation(s token.Span) sarifLocation {
	if !s.Start.IsValid() {
		return sarifLocation{Physical: sarifPhysical{Artifact: sarifArtifact{fileURI(r.File)}}}
	}
	end := r.end(s)
	region := sarifRegion{s.Start.Line, r.columnsOf(s.Start).utf16, end.Line, r.columnsOf(end).utf16}
	return sarifLocation{Physical: sarifPhysical{sarifArtifact{fileURI(s.Start.Filename)}, &region}}
}

// sarifFix returns a fix whose edits are all in one file.
func (r *Report) sarifFix(f Fix) (sarifFix, bool) {
	fix := sarifFix{Description: sarifMessage{f.Message + " (" + f.Grade.String() + ")"}}
	if len(f.Edits) == 0 {
		return fix, false
	}
	change := sarifChange{Artifact: sarifArtifact{fileURI(f.Edits[0].Span.Start.Filename)}}
	for _, e := range f.Edits {
		if e.Span.Start.Filename != f.Edits[0].Span.Start.Filename {
			return fix, false
		}
		change.Replacements = append(change.Replacements, sarifReplacement{
			Deleted: sarifRegion{
				e.Span.Start.Line, r.columnsOf(e.Span.Start).utf16,
				e.Span.End.Line, r.columnsOf(e.Span.End).utf16,
			},
			Inserted: sarifContent{e.New},
		})
	}
	fix.Changes = []sarifChange{change}
	return fix, true
}

// fileURI returns a path as a URI reference: relative as it is, absolute
// with its scheme.
func fileURI(path string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return u.String()
}
