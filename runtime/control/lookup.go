package control

import (
	"context"
	"fmt"
	"strings"

	"smtpd/compile/engine"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
)

// Lookup asks the table called name, and returns how it answered. An error
// means that it was not asked.
func (c *Client) Lookup(name string, s engine.Service, key string) (lka.Probe, error) {
	f, err := c.call(typeLookup, lka.Question{Table: name, Service: s, Key: key}.Append(nil))
	if err != nil {
		return lka.Probe{}, err
	}
	r := imsg.NewReader(f.Data)
	p := lka.ReadProbe(r)
	return p, r.Close()
}

func (a *agent) lookup(ctx context.Context, r *request) error {
	var q lka.Question
	if err := q.Parse(r.Data); err != nil {
		return err
	}
	p, err := a.front.Load().lka.Probe(ctx, q.Table, q.Service, q.Key)
	if err != nil {
		return r.failed(err)
	}
	p.Value, p.Error = shorten(p.Value), shorten(p.Error)
	return r.answered(p.Append(nil), nil)
}

// shorten makes text fit into a frame beside others.
func shorten(s string) string {
	const limit = imsg.MaxData / 4
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + fmt.Sprintf("... (%d bytes)", len(s))
}
