package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// errNoFile refuses to change what is not in a file.
var errNoFile = errors.New("--fix changes files, and standard input is none")

// maxFixRounds bounds how often a file is read again. Each round makes at
// least one change, and a statement shows one mistake a round.
const maxFixRounds = 100

// fixed loads a configuration, makes the safe changes in its files, and loads
// it again, until there are none to make: a mistake may hide the next one.
func (c *checkCmd) fixed(s *streams, path string, host compile.Host) (*loaded, error) {
	if path == "-" {
		return nil, errNoFile
	}
	made := make(map[string]int)
	defer func() {
		for _, name := range slices.Sorted(maps.Keys(made)) {
			fmt.Fprintf(s.err, "%s: %s made\n", name, plural(made[name], "change"))
		}
	}()
	for round := 0; ; round++ {
		l, err := c.load(s, path, host)
		if err != nil || round == maxFixRounds {
			return l, err
		}
		edits := safeEdits(l.report.List)
		if len(edits) == 0 {
			return l, nil
		}
		for _, name := range slices.Sorted(maps.Keys(edits)) {
			if err := rewrite(l.report, name, edits[name]); err != nil {
				return nil, err
			}
			made[name] += len(edits[name])
		}
	}
}

// safeEdits returns the safe changes for each file, in order. A file that is
// included twice has each of its findings twice.
func safeEdits(list diag.List) map[string][]diag.Edit {
	edits := make(map[string][]diag.Edit)
	for _, d := range list {
		for _, f := range d.Fixes {
			if f.Grade != diag.Safe {
				continue
			}
			for _, e := range f.Edits {
				edits[e.Span.Start.Filename] = append(edits[e.Span.Start.Filename], e)
			}
		}
	}
	for name, l := range edits {
		slices.SortStableFunc(l, func(a, b diag.Edit) int { return comparePlaces(a.Span.Start, b.Span.Start) })
		edits[name] = slices.CompactFunc(l, func(a, b diag.Edit) bool { return comparePlaces(b.Span.Start, a.Span.End) < 0 })
	}
	return edits
}

func comparePlaces(a, b token.Pos) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// rewrite makes edits in a file, whose text must be what the findings are
// about.
func rewrite(r *diag.Report, name string, edits []diag.Edit) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if string(text) != r.Set.Text(name) {
		return fmt.Errorf("%s was changed while it was read, nothing is done to it", name)
	}
	text, err = diag.Apply(text, edits)
	if err != nil {
		return err
	}
	return replaceFile(name, text)
}
