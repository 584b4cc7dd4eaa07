package lka

import (
	"context"
	"fmt"
	"strings"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tablefile"
	"smtpd/runtime/imsg"
)

// A Probe is the answer of a table to someone who wants to know how it came
// about.
type Probe struct {
	Backend string // and where its content is: db:/etc/mail/aliases.db
	Found   bool
	Value   string // "" if the service only tells whether a key matches
	Error   string // why the table could not say
	Took    time.Duration
}

// Probe asks the table called name as rules and components do, and says how
// it answered. The error says that there is no such table.
func (c *Client) Probe(ctx context.Context, name string, s engine.Service, key string) (Probe, error) {
	var a Probe
	err := c.call(ctx, msgProbe, Question{name, s, key}, &a)
	return a, err
}

// probe answers a Probe. Secrets stay here: who looks for a mistake wants to
// know that there is a password and not which.
func (a *agent) probe(ctx context.Context, q Question) (appender, error) {
	id, err := a.probed(q.Table)
	if err != nil {
		return nil, err
	}
	t, _, err := a.table(id)
	if err != nil {
		return nil, err
	}
	p := Probe{Backend: "getpwnam"}
	if id != 0 {
		p.Backend = source(a.rules.Table(id))
	}
	key := tablefile.Fold(q.Key)
	if len(key) > tablefile.MaxKey {
		p.Error = engine.ErrKeyTooLong.Error()
		return &p, nil
	}
	began := time.Now()
	if isChecked(q.Service) {
		p.Found, err = t.check(ctx, q.Service, key)
	} else {
		p.Value, p.Found, err = t.lookup(ctx, q.Service, key)
	}
	p.Took = time.Since(began)
	if err != nil {
		p.Error = err.Error()
	}
	if q.Service == engine.Credentials && p.Found {
		p.Value = hideSecret(p.Value)
	}
	return &p, nil
}

// probed returns the id of a table by its name, with or without the brackets
// in which a configuration names it.
func (a *agent) probed(name string) (compile.TableID, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(name, "<"), ">")
	for _, n := range []string{name, bare} {
		if id := a.named(n); id != 0 {
			return id, nil
		}
	}
	if bare == "getpwnam" {
		return 0, nil
	}
	return 0, fmt.Errorf("no table is called %s", name)
}

// source returns what a configuration would say of a table.
func source(t *compile.Table) string {
	switch {
	case t.Path == "":
		return t.Backend
	case t.Backend == "static":
		return "file:" + t.Path
	}
	return t.Backend + ":" + t.Path
}

// isChecked reports whether keys of a service match entries and map to
// nothing.
func isChecked(s engine.Service) bool {
	const checked = engine.Domain | engine.NetAddr | engine.MailAddr | engine.String | engine.Regex | engine.Auth
	return s&checked != 0
}

// hideSecret returns credentials without what proves them.
func hideSecret(value string) string {
	if user, _, ok := strings.Cut(value, ":"); ok {
		return user + ":(hidden)"
	}
	return "(hidden)"
}

// A Question asks a table by its name.
type Question struct {
	Table   string
	Service engine.Service
	Key     string
}

// Append appends q as control and lka send it.
func (q Question) Append(b []byte) []byte {
	b = imsg.AppendUint32(imsg.AppendString(b, q.Table), uint32(q.Service))
	return imsg.AppendString(b, q.Key)
}

// Parse reads what Append wrote.
func (q *Question) Parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Table = r.String()
	service := r.Uint32()
	if service > 0xffff {
		r.Fail()
	}
	q.Service, q.Key = engine.Service(service), r.String()
	return r.Close()
}

func (q Question) append(b []byte) []byte { return q.Append(b) }

func (q *Question) parse(b []byte) error { return q.Parse(b) }

func (p *Probe) append(b []byte) []byte { return p.Append(b) }

func (p *Probe) parse(b []byte) error {
	r := imsg.NewReader(b)
	*p = ReadProbe(r)
	return r.Close()
}

// Append appends p to b; others pass it on.
func (p *Probe) Append(b []byte) []byte {
	b = imsg.AppendBool(imsg.AppendString(b, p.Backend), p.Found)
	b = imsg.AppendString(imsg.AppendString(b, p.Value), p.Error)
	return imsg.AppendUint64(b, uint64(p.Took))
}

// ReadProbe reads what Append appended.
func ReadProbe(r *imsg.Reader) Probe {
	return Probe{Backend: r.String(), Found: r.Bool(), Value: r.String(), Error: r.String(), Took: time.Duration(r.Uint64())}
}
