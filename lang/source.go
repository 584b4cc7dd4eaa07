package lang

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"smtpd/lang/token"
)

// A source is a file on the include stack.
type source struct {
	name string
	text string
	base int // offset of the first byte in the file set
	off  int // of the next byte
	line int
	bol  int // offset at which the line begins

	// ended is set when the newline that every file ends with, written or
	// not, has been handed out.
	ended bool
	crlf  bool // a carriage return at the end of a line was reported
}

// pos returns the place of the next byte.
func (s *source) pos() token.Pos {
	return token.Pos{
		Filename: s.name,
		Offset:   s.base + s.off,
		Line:     s.line,
		Column:   s.off - s.bol + 1,
	}
}

// An expansion is the text of a macro that is being read. There is at most
// one: the text of a macro is not expanded again.
type expansion struct {
	text     string
	off      int
	base     int
	use, end token.Pos // the reference
}

// errTooLarge is what the open function of Options should return for a file
// that it will not read whole.
var errTooLarge = fmt.Errorf("larger than %d MiB", maxInput>>20)

// readFile is the default of Options.Open. Like the original on Linux it
// takes a directory for an empty file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxInput+1))
	switch {
	case errors.Is(err, syscall.EISDIR):
		return nil, nil
	case err != nil:
		return nil, err
	case len(text) > maxInput:
		return nil, &os.PathError{Op: "read", Path: path, Err: errTooLarge}
	}
	return text, nil
}
