package control

import (
	"context"
	"fmt"

	"smtpd/runtime/imsg"
	"smtpd/runtime/mfa"
)

// recent sends a frame for each of the last decisions, the latest first, and
// at the end one without.
func (a *agent) recent(ctx context.Context, r *request) error {
	l, err := a.front.Load().mfa.Recent(ctx)
	if err != nil {
		return r.failed(err)
	}
	for i := range l {
		if err := r.answered(l[i].Append(nil), nil); err != nil {
			return err
		}
	}
	return r.answered(nil, nil)
}

// explain sends why a decision was made: its first frame is the decision, each
// after that a rule that was passed over, and the last one ends the list.
func (a *agent) explain(ctx context.Context, r *request) error {
	q := imsg.NewReader(r.Data)
	n := q.Uint64()
	if err := q.Close(); err != nil {
		return err
	}
	e, err := a.front.Load().mfa.Explain(ctx, n)
	if err != nil {
		return r.failed(err)
	}
	if err := r.answered(imsg.AppendUint32(imsg.AppendBool(e.Decided.Append(nil), e.Changed), e.More), nil); err != nil {
		return err
	}
	for i := range e.Passed {
		if err := r.answered(e.Passed[i].Append(nil), nil); err != nil {
			return err
		}
	}
	return r.answered(nil, nil)
}

// Recent returns the last decisions about recipients, the latest first.
func (c *Client) Recent() ([]mfa.Decided, error) {
	var l []mfa.Decided
	f, err := c.call(typeRecent, nil)
	for ; err == nil && len(f.Data) > 0; f, err = c.recv(typeRecent) {
		var d mfa.Decided
		r := imsg.NewReader(f.Data)
		d.Read(r)
		if err = r.Close(); err != nil {
			break
		}
		l = append(l, d)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the last decisions: %w", err)
	}
	return l, nil
}

// Explain says why the decision of that number was made.
func (c *Client) Explain(n uint64) (*mfa.Explanation, error) {
	f, err := c.call(typeExplain, imsg.AppendUint64(nil, n))
	if err != nil {
		return nil, err
	}
	e := new(mfa.Explanation)
	r := imsg.NewReader(f.Data)
	e.Decided.Read(r)
	e.Changed, e.More = r.Bool(), r.Uint32()
	if err := r.Close(); err != nil {
		return nil, err
	}
	for {
		f, err := c.recv(typeExplain)
		if err != nil || len(f.Data) == 0 {
			return e, err
		}
		var p mfa.Passed
		r := imsg.NewReader(f.Data)
		p.Read(r)
		if err := r.Close(); err != nil {
			return nil, err
		}
		e.Passed = append(e.Passed, p)
	}
}
