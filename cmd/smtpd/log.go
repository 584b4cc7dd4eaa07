package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"strconv"
	"strings"
	"sync"
)

// A lineHandler writes records as OpenSMTPD writes its log: the session, if
// there is one, the message, and key=value pairs. Tools that read such logs
// find their fields. What a remote host said is a value and quoted: it cannot
// make a line or a field of its own.
type lineHandler struct {
	write func(level slog.Level, line []byte) // called under mu
	mu    *sync.Mutex
	level slog.Leveler
	attrs []slog.Attr
}

// newLog returns a logger to w.
func newLog(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(&lineHandler{
		write: func(_ slog.Level, line []byte) { w.Write(append(line, '\n')) },
		mu:    new(sync.Mutex),
		level: level,
	})
}

// newSyslog returns a logger to the system's log.
func newSyslog(level slog.Leveler) (*slog.Logger, error) {
	w, err := syslog.New(syslog.LOG_MAIL|syslog.LOG_INFO, "smtpd")
	if err != nil {
		return nil, err
	}
	return slog.New(&lineHandler{
		write: func(level slog.Level, line []byte) {
			switch {
			case level >= slog.LevelError:
				w.Err(string(line))
			case level >= slog.LevelWarn:
				w.Warning(string(line))
			case level >= slog.LevelInfo:
				w.Info(string(line))
			default:
				w.Debug(string(line))
			}
		},
		mu:    new(sync.Mutex),
		level: level,
	}), nil
}

// newChildLog returns the logger of a component that runs as a process. If
// lines are tagged, the parent passes them on to the system's log.
func newChildLog(w io.Writer, level slog.Leveler, tagged bool) *slog.Logger {
	h := newLog(w, level).Handler().(*lineHandler)
	if tagged {
		h.write = func(level slog.Level, line []byte) {
			fmt.Fprintf(w, "<%d>%s\n", level, line)
		}
	}
	return slog.New(h)
}

// processLog returns where processes write what they log, as they do with what
// the runtime says when one of them crashes.
func (d *daemon) processLog() (*os.File, error) {
	if !d.tagged {
		return os.Stderr, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		lines := bufio.NewReaderSize(r, maxLogLine)
		for {
			line, _, err := lines.ReadLine() // a longer one is cut into several
			if err != nil {
				return
			}
			level, text := untag(line)
			if h, ok := d.log.Handler().(*lineHandler); ok && text != "" {
				h.writeLine(level, []byte(text))
			}
		}
	}()
	return w, nil
}

// maxLogLine bounds a line of a process.
const maxLogLine = 16 << 10

// untag returns the level of a tagged line and its text. A line without a tag
// is from a crash.
func untag(line []byte) (slog.Level, string) {
	tag, text, ok := strings.Cut(string(line), ">")
	if level, err := strconv.Atoi(strings.TrimPrefix(tag, "<")); ok && err == nil && tag[0] == '<' {
		return slog.Level(level), text
	}
	return slog.LevelError, string(line)
}

func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return &c
}

// WithGroup leaves groups out: keys stay those that OpenSMTPD has.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }

// sessionKey is the key of the id that stands first in its line.
const sessionKey = "session"

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var session string
	fields := bytes.NewBuffer(make([]byte, 0, 256))
	add := func(a slog.Attr) bool {
		if a.Key == sessionKey {
			session = a.Value.String()
			return true
		}
		fields.WriteByte(' ')
		fields.WriteString(a.Key)
		fields.WriteByte('=')
		fields.WriteString(logValue(a.Key, a.Value.String()))
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	line := append([]byte(levelPrefix(r.Level, session)), r.Message...)
	line = append(line, fields.Bytes()...)
	h.writeLine(r.Level, line)
	return nil
}

func (h *lineHandler) writeLine(level slog.Level, line []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.write(level, line)
}

// levelPrefix returns what stands before the message: the session alone for
// its ordinary events.
func levelPrefix(level slog.Level, session string) string {
	if session != "" {
		session += " "
	}
	switch {
	case level >= slog.LevelError:
		return "error: " + session
	case level >= slog.LevelWarn:
		return "warn: " + session
	case level < slog.LevelInfo:
		return "debug: " + session
	case session == "":
		return "info: "
	}
	return session
}

// quotedKeys are those whose values OpenSMTPD always quotes.
var quotedKeys = map[string]bool{"command": true, "result": true, "stat": true, "relay": true, "source": true}

func logValue(key, s string) string {
	if quotedKeys[key] {
		return strconv.Quote(s)
	}
	if s == "" {
		return `""`
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' {
			return strconv.Quote(s)
		}
	}
	return s
}
