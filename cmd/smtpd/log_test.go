package main

import (
	"bytes"
	"log/slog"
	"testing"
)

// TestLog holds the form of log lines: that of OpenSMTPD, one line an event
// whatever a remote host said.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := newLog(&out, slog.LevelInfo)
	session := slog.String("session", "0123456789abcdef")
	log.Info("smtp connected", session, "address", "[::1]", "host", "<unknown>")
	log.Info("smtp failed-command", session, "command", "RCPT TO:<\"a\nb\">", "result", "550 no")
	log.Info("mda delivery", "user", "a b", "delay", "1s", "empty", "")
	log.Warn("smtp: commit message", session, "error", "disk\x1b[31m full")
	log.Debug("not shown")
	log.With("component", "mta").Error("lost")
	want := `0123456789abcdef smtp connected address=[::1] host=<unknown>
0123456789abcdef smtp failed-command command="RCPT TO:<\"a\nb\">" result="550 no"
info: mda delivery user="a b" delay=1s empty=""
warn: 0123456789abcdef smtp: commit message error="disk\x1b[31m full"
error: lost component=mta
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
