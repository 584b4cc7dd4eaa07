package main

import (
	"errors"

	"smtpd/compile/policy"
	"smtpd/lang/diag"
)

// labels returns the names of rules, by their index. It prints what is wrong
// with them.
func (l *loaded) labels(s *streams) (map[int]string, error) {
	labels, list := policy.Labels(l.file.Set, l.rules)
	if len(list) == 0 {
		return labels, nil
	}
	if err := diag.Text(s.err, []*diag.Report{{File: l.report.File, Set: l.file.Set, List: list}}, false); err != nil {
		return nil, err
	}
	return nil, errors.New("labels of rules are wrong")
}
