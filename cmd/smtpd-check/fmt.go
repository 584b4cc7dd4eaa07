package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/rogpeppe/go-internal/diff"

	"smtpd/lang"
	"smtpd/lang/diag"
)

type fmtCmd struct {
	Files []string `arg:"" name:"file" help:"Configurations; - is standard input."`
	Diff  bool     `short:"d" xor:"what" help:"Show what would change."`
	Write bool     `short:"w" xor:"what" help:"Write the result into the file."`
	List  bool     `short:"l" xor:"what" help:"List the files whose layout would change."`
}

// Run lays files out. Without an option the result is printed. A file that
// is not laid out is a remark for --diff and --list.
func (c *fmtCmd) Run(s *streams) error {
	status := good
	for _, path := range c.Files {
		one, err := c.file(s, path)
		if err != nil {
			fmt.Fprintf(s.err, "smtpd-check: %v\n", err)
			one = broken
			var d *diag.Diagnostic
			if errors.As(err, &d) {
				one = bad
			}
		}
		status = worse(status, one)
	}
	if status == good {
		return nil
	}
	return outcome(status)
}

// file lays one file out and returns the exit status for it.
func (c *fmtCmd) file(s *streams, path string) (int, error) {
	name, text, err := s.read(path)
	if err != nil {
		return broken, err
	}
	laid, err := lang.Format(name, text)
	if err != nil {
		return bad, err
	}
	same := bytes.Equal(laid, text)
	switch {
	case c.Diff && !same:
		_, err = s.out.Write(diff.Diff(name, text, name+" (laid out)", laid))
		return remarks, err
	case c.List && !same:
		_, err = fmt.Fprintln(s.out, name)
		return remarks, err
	case c.Diff, c.List:
		return good, nil
	case c.Write && path != "-":
		if same {
			return good, nil
		}
		return good, replaceFile(path, laid)
	}
	_, err = s.out.Write(laid)
	return good, err
}
