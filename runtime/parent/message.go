package parent

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// A message is the header lines that delivery adds and a stored content. It
// can be read any number of times, since it never moves the file's offset,
// which deliveries of the same message may share.
type message struct {
	header  string
	content *os.File
	size    int64
}

func newMessage(header string, content *os.File) (*message, error) {
	st, err := content.Stat()
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	return &message{header, content, st.Size()}, nil
}

// reader returns the whole message from its first byte.
func (m *message) reader() io.Reader {
	return io.MultiReader(strings.NewReader(m.header), m.body())
}

// body returns the content without the added lines.
func (m *message) body() io.Reader { return io.NewSectionReader(m.content, 0, m.size) }

// blocks are what messages are written from: a whole message, mostly.
var blocks = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// writeTo writes the whole message to f, in as few calls as may be.
func (m *message) writeTo(f *os.File) error {
	block := blocks.Get().(*[64 << 10]byte)
	defer blocks.Put(block)
	in, b := m.reader(), block[:]
	for {
		n, err := io.ReadFull(in, b)
		if n > 0 {
			if _, err := f.Write(b[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF, err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// isSpam reports whether a line of the content's header says so: X-Spam or
// X-Spam-Flag with the value yes, in any case.
func (m *message) isSpam() (bool, error) {
	r := bufio.NewReader(m.body())
	for {
		line, err := r.ReadSlice('\n')
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case err == bufio.ErrBufferFull: // no line that we look for is that long
			if err := skipLine(r); err != nil {
				return false, ignoreEOF(err)
			}
			continue
		case strings.EqualFold(text, "X-Spam: yes"), strings.EqualFold(text, "X-Spam-Flag: yes"):
			return true, nil
		case err != nil:
			return false, ignoreEOF(err)
		case text == "":
			return false, nil
		}
	}
}

// skipLine reads up to and including the next LF.
func skipLine(r *bufio.Reader) error {
	for {
		_, err := r.ReadSlice('\n')
		if err != bufio.ErrBufferFull {
			return err
		}
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
