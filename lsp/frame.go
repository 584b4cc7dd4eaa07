package lsp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The budgets of one message.
const (
	maxHeader  = 4 << 10 // bytes of a header line
	maxHeaders = 16
	maxContent = 64 << 20
)

// readFrame reads one message: header lines, an empty line, and as many bytes
// as Content-Length says. The error is io.EOF only between messages.
func readFrame(r *bufio.Reader) ([]byte, error) {
	length := -1
	for n := 0; ; n++ {
		line, err := readHeader(r)
		switch {
		case errors.Is(err, io.EOF) && n == 0 && line == "":
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read header: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return nil, fmt.Errorf("read header: %w", err)
		case n == maxHeaders:
			return nil, fmt.Errorf("read header: more than %d lines", maxHeaders)
		}
		if line == "" {
			break
		}
		if length, err = header(line, length); err != nil {
			return nil, fmt.Errorf("read header: %w", err)
		}
	}
	if length < 0 {
		return nil, errors.New("read header: no Content-Length; this is not the language server protocol")
	}
	// The buffer grows as the bytes come: a length is only a promise.
	var body strings.Builder
	n, err := io.CopyN(&body, r, int64(length))
	if err != nil {
		return nil, fmt.Errorf("read message: %d of %d bytes: %w", n, length, io.ErrUnexpectedEOF)
	}
	return []byte(body.String()), nil
}

// readHeader reads a line without its end.
func readHeader(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("a line of more than %d bytes", maxHeader)
	}
	return strings.TrimRight(string(line), "\r\n"), err
}

// header returns the length after one header line.
func header(line string, length int) (int, error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return 0, fmt.Errorf("%q is not a header; this is not the language server protocol", clip(line))
	}
	if !strings.EqualFold(name, "Content-Length") {
		return length, nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
	switch {
	case err != nil:
		return 0, fmt.Errorf("Content-Length %q is not a number", clip(value))
	case n > maxContent:
		return 0, fmt.Errorf("a message of %d bytes: at most %d are allowed", n, maxContent)
	}
	return int(n), nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// writeFrame writes one message.
func writeFrame(w io.Writer, body []byte) error {
	_, err := fmt.Fprintf(w, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return err
}
