package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/control"
	"smtpd/runtime/lka"
)

// A prober asks the tables of a running daemon.
type prober interface {
	Lookup(table string, s engine.Service, key string) (lka.Probe, error)
}

// live asks the running daemon for what a table says that the configuration
// does not hold. Its answers are kept: the trace says where they come from.
type live struct {
	rules  *compile.Ruleset
	daemon prober
	probes map[engine.Question]lka.Probe
}

func newLive(rs *compile.Ruleset, daemon prober) *live {
	return &live{rules: rs, daemon: daemon, probes: make(map[engine.Question]lka.Probe)}
}

// dialDaemon connects to the daemon of this host.
func dialDaemon() (*control.Client, error) {
	spool := cmp.Or(os.Getenv("SMTPD_SPOOL"), "/var/spool/smtpd")
	c, err := control.Dial(filepath.Join(spool, "control.sock"))
	if err != nil {
		return nil, fmt.Errorf("--ask: the daemon cannot be asked: %w", err)
	}
	return c, nil
}

// ask returns what a table, or the system if it is 0, says to a key.
func (l *live) ask(t compile.TableID, s engine.Service, key string) (value string, ok bool, err error) {
	q := engine.Question{Table: t, Service: s, Key: key}
	p, known := l.probes[q]
	if !known {
		name := "<getpwnam>"
		if t != 0 {
			name = l.rules.Table(t).Name
		}
		if p, err = l.daemon.Lookup(name, s, key); err != nil {
			return "", false, err
		}
		l.probes[q] = p
	}
	if p.Error != "" {
		return "", false, errors.New(p.Error)
	}
	return p.Value, p.Found, nil
}

// Check implements engine.Lookups.
func (l *live) Check(_ context.Context, t compile.TableID, s engine.Service, key string) (bool, error) {
	_, ok, err := l.ask(t, s, key)
	return ok, err
}

// A probeTrace says where an answer of the daemon came from, and how long it
// took.
type probeTrace struct {
	Backend string  `json:"backend,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// probed returns how the daemon answered a question; nothing if it was not
// asked.
func (l *live) probed(q engine.Question) probeTrace {
	if l == nil {
		return probeTrace{}
	}
	p := l.probes[q]
	return probeTrace{p.Backend, p.Took.Seconds()}
}

// text returns what to add to a line about the question.
func (p probeTrace) text() string {
	if p.Backend == "" {
		return ""
	}
	return fmt.Sprintf(" (%s, %v)", p.Backend, time.Duration(p.Seconds*float64(time.Second)).Round(time.Microsecond))
}
