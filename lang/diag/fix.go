package diag

import (
	"cmp"
	"fmt"
	"slices"

	"smtpd/lang/token"
)

// Apply returns text with the edits made. Edits that overlap one that comes
// before them are left out: who asks again after reading the result gets
// them. The positions are of a source that was read as a file, not of the
// text of a macro.
func Apply(text []byte, edits []Edit) ([]byte, error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b Edit) int {
		return cmp.Or(cmp.Compare(a.Span.Start.Line, b.Span.Start.Line), cmp.Compare(a.Span.Start.Column, b.Span.Start.Column))
	})
	lines := lineStarts(text)
	var out []byte
	done := 0
	for _, e := range edits {
		from, err := offset(lines, len(text), e.Span.Start)
		if err != nil {
			return nil, err
		}
		to, err := offset(lines, len(text), e.Span.End)
		if err != nil {
			return nil, err
		}
		if from < done || to < from {
			continue
		}
		out = append(append(out, text[done:from]...), e.New...)
		done = to
	}
	return append(out, text[done:]...), nil
}

// lineStarts returns the offset of every line.
func lineStarts(text []byte) []int {
	starts := []int{0}
	for i, b := range text {
		if b == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

func offset(lines []int, size int, p token.Pos) (int, error) {
	if p.Line < 1 || p.Line > len(lines) || p.Column < 1 {
		return 0, fmt.Errorf("edit at %s: no such place", p)
	}
	at := lines[p.Line-1] + p.Column - 1
	if at > size {
		return 0, fmt.Errorf("edit at %s: no such place", p)
	}
	return at, nil
}
