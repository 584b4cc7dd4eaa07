package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A lineHandler writes records as OpenSMTPD writes its log: the session, if
// there is one, the message, and key=value pairs. Tools that read such logs
// find their fields. What a remote host said is a value and quoted: it cannot
// make a line or a field of its own. With asJSON a line is an object.
type lineHandler struct {
	write  func(level slog.Level, line []byte) // called under mu
	mu     *sync.Mutex
	level  slog.Leveler
	asJSON bool
	traces *traces
	attrs  []slog.Attr
}

// A logForm says what lines look like, and what stands before them.
type logForm struct {
	JSON    bool
	Tagged  bool // <level>: the parent passes them on to the system's log
	Journal bool // <priority>, as the journal reads it from standard error
}

// newLog returns a logger to w, and the traces of it.
func newLog(w io.Writer, level slog.Leveler, form logForm) (*slog.Logger, *traces) {
	write := func(_ slog.Level, line []byte) { w.Write(append(line, '\n')) }
	switch {
	case form.Tagged:
		write = func(level slog.Level, line []byte) { fmt.Fprintf(w, "<%d>%s\n", level, line) }
	case form.Journal:
		write = func(level slog.Level, line []byte) { fmt.Fprintf(w, "<%d>%s\n", priority(level), line) }
	}
	return newLogTo(write, level, form.JSON)
}

func newLogTo(write func(level slog.Level, line []byte), level slog.Leveler, asJSON bool) (*slog.Logger, *traces) {
	t := new(traces)
	return slog.New(&lineHandler{write: write, mu: new(sync.Mutex), level: level, asJSON: asJSON, traces: t}), t
}

// newSyslog returns a logger to the system's log.
func newSyslog(level slog.Leveler, asJSON bool) (*slog.Logger, *traces, error) {
	w, err := syslog.New(syslog.LOG_MAIL|syslog.LOG_INFO, "smtpd")
	if err != nil {
		return nil, nil, err
	}
	log, t := newLogTo(func(level slog.Level, line []byte) {
		switch priority(level) {
		case syslog.LOG_ERR:
			w.Err(string(line))
		case syslog.LOG_WARNING:
			w.Warning(string(line))
		case syslog.LOG_INFO:
			w.Info(string(line))
		default:
			w.Debug(string(line))
		}
	}, level, asJSON)
	return log, t, nil
}

// priority returns what syslog and the journal call a level.
func priority(level slog.Level) syslog.Priority {
	switch {
	case level >= slog.LevelError:
		return syslog.LOG_ERR
	case level >= slog.LevelWarn:
		return syslog.LOG_WARNING
	case level >= slog.LevelInfo:
		return syslog.LOG_INFO
	}
	return syslog.LOG_DEBUG
}

// isJournal reports whether f, which is named by the variable that systemd
// sets, goes to the journal.
func isJournal(f *os.File, variable string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && variable == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// processLog returns where processes write what they log, as they do with what
// the runtime says when one of them crashes.
func (d *daemon) processLog() (*os.File, error) {
	if !d.form.Tagged {
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
	return level >= h.level.Level() || h.traces.active.Load()
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
	line := h.textLine
	if h.asJSON {
		line = h.jsonLine
	}
	text := line(r)
	h.traces.copy(text)
	if r.Level >= h.level.Level() {
		h.writeLine(r.Level, text)
	}
	return nil
}

// each calls f for the attributes of a record.
func (h *lineHandler) each(r slog.Record, f func(a slog.Attr) bool) {
	for _, a := range h.attrs {
		f(a)
	}
	r.Attrs(f)
}

func (h *lineHandler) textLine(r slog.Record) []byte {
	var session string
	fields := bytes.NewBuffer(make([]byte, 0, 256))
	h.each(r, func(a slog.Attr) bool {
		if a.Key == sessionKey {
			session = a.Value.String()
			return true
		}
		fields.WriteByte(' ')
		fields.WriteString(a.Key)
		fields.WriteByte('=')
		fields.WriteString(logValue(a.Key, a.Value.String()))
		return true
	})
	line := append([]byte(levelPrefix(r.Level, session)), r.Message...)
	return append(line, fields.Bytes()...)
}

// jsonLine returns an object with the time, the level, the event, and its
// fields in their order; all values are text.
func (h *lineHandler) jsonLine(r slog.Record) []byte {
	var b bytes.Buffer
	put := func(key, value string) {
		separator := byte(',')
		if b.Len() == 0 {
			separator = '{'
		}
		b.WriteByte(separator)
		b.Write(jsonText(key))
		b.WriteByte(':')
		b.Write(jsonText(value))
	}
	put("time", r.Time.UTC().Format(time.RFC3339Nano))
	put("level", strings.ToLower(r.Level.String()))
	put("event", r.Message)
	h.each(r, func(a slog.Attr) bool {
		put(a.Key, a.Value.String())
		return true
	})
	b.WriteByte('}')
	return b.Bytes()
}

func jsonText(s string) []byte {
	b, _ := json.Marshal(s) // a string always can
	return b
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
