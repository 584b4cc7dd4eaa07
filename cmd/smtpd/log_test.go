package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLog holds the form of log lines: that of OpenSMTPD, one line an event
// whatever a remote host said.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	log, _ := newLog(&out, slog.LevelInfo, logForm{})
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

// TestLogJSON holds the form of log lines that are objects.
func TestLogJSON(t *testing.T) {
	var out bytes.Buffer
	log, _ := newLog(&out, slog.LevelInfo, logForm{JSON: true})
	log.Warn("smtp failed-command", "session", "0123456789abcdef", "command", "RCPT TO:<\"a\nb\">", "nrcpt", 2)
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%v: %s", err, &out)
	}
	when, err := time.Parse(time.RFC3339Nano, got["time"])
	if err != nil || time.Since(when) > time.Hour {
		t.Error(got["time"])
	}
	delete(got, "time")
	want := map[string]string{
		"level": "warn", "event": "smtp failed-command", "session": "0123456789abcdef",
		"command": "RCPT TO:<\"a\nb\">", "nrcpt": "2",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestLogPriority checks what the parent and the journal are told of a line.
func TestLogPriority(t *testing.T) {
	for form, want := range map[logForm]string{
		{Tagged: true}:  "<4>warn: a\n<8>error: b\n<0>info: c\n",
		{Journal: true}: "<4>warn: a\n<3>error: b\n<6>info: c\n",
	} {
		var out bytes.Buffer
		log, _ := newLog(&out, slog.LevelInfo, form)
		log.Warn("a")
		log.Error("b")
		log.Info("c")
		if out.String() != want {
			t.Errorf("%+v: %q", form, out.String())
		}
	}
}

func TestMentions(t *testing.T) {
	line := []byte("00aa11bb22cc33dd mta delivery evpid=1234567890abcdef msgid=deadbeef host=feedface1")
	for id, want := range map[string]bool{
		"00aa11bb22cc33dd": true, "1234567890abcdef": true, "deadbeef": true,
		"12345678": true, "90abcdef": false, "feedface": false, "00aa11bb": true, "0123456789abcdef": false,
	} {
		if got := mentions(line, id); got != want {
			t.Errorf("%s: %v", id, got)
		}
	}
}
