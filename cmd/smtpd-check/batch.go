package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
)

// maxTransaction is the longest line that describes a transaction, in bytes.
const maxTransaction = 1 << 20

// eachLine calls f for each line of r without its end. A line longer than
// limit is passed over; f gets its number and nil.
func eachLine(r io.Reader, limit int, f func(n int, line []byte) error) error {
	in := bufio.NewReaderSize(r, 1<<16)
	var long []byte // a line that does not fit the buffer
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		tooLong := false
		for long = long[:0]; errors.Is(err, bufio.ErrBufferFull); line, err = in.ReadSlice('\n') {
			if tooLong = tooLong || len(long)+len(line) > limit; !tooLong {
				long = append(long, line...)
			}
		}
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return err
		}
		if len(long) > 0 {
			line = append(long, line...)
		}
		switch {
		case tooLong || len(line) > limit:
			line = nil
		case end && len(line) == 0:
			return nil
		default:
			line = bytes.TrimRight(line, "\r\n")
		}
		if err := f(n, line); err != nil {
			return err
		}
		if end {
			return nil
		}
	}
}

// parseTransaction reads the description of a transaction in a line.
func parseTransaction(line []byte, rs *compile.Ruleset) (*described, *engine.Transaction, error) {
	if line == nil {
		return nil, nil, fmt.Errorf("longer than %d bytes", maxTransaction)
	}
	d := new(described)
	if err := parseDescribed(line, d); err != nil {
		return nil, nil, err
	}
	tx, err := d.transaction(rs)
	return d, tx, err
}

// A lineError is written in the place of a verdict for a line that describes
// no transaction.
type lineError struct {
	Error string `json:"error"`
	Line  int    `json:"input_line"`
}

// forEachTransaction calls f for each line of in that is not empty. For one
// that describes no transaction it writes a lineError, and returns an error
// when all are done.
func forEachTransaction(in io.Reader, out io.Writer, rs *compile.Ruleset, f func(*described, *engine.Transaction) error) error {
	wrong, first := 0, 0
	err := eachLine(in, maxTransaction, func(n int, line []byte) error {
		if line != nil && len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
		d, tx, err := parseTransaction(line, rs)
		if err == nil {
			return f(d, tx)
		}
		if wrong++; wrong == 1 {
			first = n
		}
		return json.NewEncoder(out).Encode(lineError{err.Error(), n})
	})
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%s no transaction, the first is line %d", countAre(wrong, "line"), first)
	}
	return err
}

// countAre returns "1 line is" or "2 lines are".
func countAre(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

// batch decides a transaction a line.
func batch(s *streams, rs *compile.Ruleset, x *analyze.Explainer, l engine.Lookups) error {
	out := bufio.NewWriterSize(s.out, 1<<16)
	verdicts := make(map[verdictKey][]byte)
	err := forEachTransaction(s.in, out, rs, func(_ *described, tx *engine.Transaction) error {
		d := x.Engine().Decide(context.Background(), tx, l)
		key := verdictKey{d.Outcome, d.Rule}
		line, ok := verdicts[key]
		if !ok {
			text, err := json.Marshal(verdictOf(rs, d))
			if err != nil {
				return err
			}
			line = append(text, '\n')
			verdicts[key] = line
		}
		_, err := out.Write(line)
		return err
	})
	return errors.Join(err, out.Flush())
}

// A verdictKey is all that a verdict depends on.
type verdictKey struct {
	outcome engine.Outcome
	rule    int
}
