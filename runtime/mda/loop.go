package mda

import (
	"bufio"
	"io"
	"strings"

	"smtpd/runtime/envelope"
)

// maxHeaderLine is how much of a header line is looked at; no Delivered-To
// that delivery wrote is longer.
const maxHeaderLine = 4096

// looped reports whether the header of content says that it was delivered to
// ev's destination before, or to the recipient that delivery would now write.
func looped(content io.Reader, ev *envelope.Envelope) (bool, error) {
	r := bufio.NewReaderSize(content, maxHeaderLine)
	for {
		line, err := r.ReadSlice('\n')
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			return false, ignoreEOF(err)
		}
		if name, value, ok := strings.Cut(text, ":"); ok && strings.EqualFold(strings.TrimSpace(name), "Delivered-To") {
			value = strings.TrimSpace(value)
			if strings.EqualFold(value, ev.Dest.String()) || strings.EqualFold(value, ev.Rcpt.String()) {
				return true, nil
			}
		}
		for err == bufio.ErrBufferFull {
			_, err = r.ReadSlice('\n')
		}
		if err != nil {
			return false, ignoreEOF(err)
		}
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// trace returns the header lines that delivery puts before the message. The
// null sender leaves no Return-Path.
func trace(ev *envelope.Envelope) string {
	var b strings.Builder
	if !ev.Sender.IsNull() {
		b.WriteString("Return-Path: <" + oneLine(ev.Sender.String()) + ">\n")
	}
	b.WriteString("Delivered-To: " + oneLine(ev.Rcpt.String()) + "\n")
	return b.String()
}

// oneLine keeps an address from being more than a header field.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
