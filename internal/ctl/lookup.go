package ctl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"smtpd/compile/engine"
	"smtpd/lang/diag"
	"smtpd/runtime/control"
	"smtpd/runtime/lka"
)

// A lookup is what a table was asked, and what it said.
type lookup struct {
	Table   string  `json:"table"`
	Backend string  `json:"backend"`
	Service string  `json:"service"`
	Key     string  `json:"key"`
	Answer  string  `json:"answer"` // found, not found, error
	Value   string  `json:"value,omitempty"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// lookupTable asks a table as the daemon does. A key that is not found makes
// the status that of a failure, so that scripts can tell.
func lookupTable(t *terminal, o options, names []string) error {
	table, key := names[0], names[2]
	s, ok := engine.ParseService(names[1])
	if !ok {
		return fmt.Errorf("no service is called %s: there are %s", names[1], strings.Join(services(), ", "))
	}
	return ask(t, func(c *control.Client) error {
		p, err := c.Lookup(table, s, key)
		if err != nil {
			return err
		}
		l := lookup{Table: table, Service: s.String(), Key: key, Backend: p.Backend, Value: p.Value, Error: p.Error, Seconds: p.Took.Seconds()}
		l.Answer = answerOf(&p)
		if o.json {
			err = t.printJSON(&l)
		} else {
			err = l.print(t, p.Took)
		}
		if err == nil && !p.Found {
			err = errNotFound
		}
		return err
	})
}

// errNotFound is told by what is printed already.
var errNotFound = errors.New("not found")

func answerOf(p *lka.Probe) string {
	switch {
	case p.Error != "":
		return "error"
	case p.Found:
		return "found"
	}
	return "not found"
}

func (l *lookup) print(t *terminal, took time.Duration) error {
	var b strings.Builder
	put := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-9s%s\n", name+":", diag.Printable(value))
		}
	}
	put("table", l.Table)
	put("backend", l.Backend)
	put("service", l.Service)
	put("key", l.Key)
	put("answer", l.Answer)
	put("value", l.Value)
	put("error", l.Error)
	put("time", took.Round(100*time.Nanosecond).String())
	_, err := fmt.Fprint(t.out, b.String())
	return err
}

// services returns the names of all services.
func services() []string {
	var names []string
	for s := engine.Service(1); s != 0; s <<= 1 {
		if name := s.String(); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
