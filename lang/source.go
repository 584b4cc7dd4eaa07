package lang

import (
	"bytes"
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

// errTooLarge is about a file that is not read to its end.
var errTooLarge = fmt.Errorf("larger than %d MiB", maxInput>>20)

// ReadFile is the default of Options.Open. Like the original on Linux it
// takes a directory for an empty file, and it reads no more than the limit.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var text bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		text.Grow(int(min(info.Size(), maxInput)) + bytes.MinRead)
	}
	_, err = text.ReadFrom(io.LimitReader(f, maxInput+1))
	switch {
	case errors.Is(err, syscall.EISDIR):
		return nil, nil
	case err != nil:
		return nil, err
	case text.Len() > maxInput:
		return nil, &os.PathError{Op: "read", Path: path, Err: errTooLarge}
	}
	return text.Bytes(), nil
}
