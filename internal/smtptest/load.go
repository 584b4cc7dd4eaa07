package smtptest

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/tools/txtar"
)

// A Case is a dialogue that holds for every server that keeps to a standard.
type Case struct {
	Name   string // archive and section of the standard
	Script string
}

// Load reads the cases in the archives of dir. In each, $RCPT becomes an
// address that the server takes mail for, and $FROM the sender.
func Load(dir, rcpt, from string) ([]Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		return nil, err
	}
	var cases []Case
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			return nil, err
		}
		for _, f := range a.Files {
			cases = append(cases, Case{
				Name:   strings.TrimSuffix(filepath.Base(file), ".txtar") + ", " + f.Name,
				Script: strings.NewReplacer("$RCPT", rcpt, "$FROM", from).Replace(string(f.Data)),
			})
		}
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("no dialogues in %s", dir)
	}
	return cases, nil
}
