package control

import (
	"context"
	"fmt"
	"io"

	"smtpd/runtime/imsg"
	"smtpd/runtime/mta"
)

// relaying gives an order to mta, and sends its answer.
func (a *agent) relaying(ctx context.Context, r *request) error {
	var o mta.Order
	if err := o.Parse(r.Data); err != nil {
		return err
	}
	answer, err := a.front.Load().mta.Do(ctx, o)
	if err == nil && answer.Changed && (o.Verb == mta.Pause || o.Verb == mta.Resume) {
		err = a.rememberPaused(ctx)
	}
	if err != nil {
		return r.failed(err)
	}
	for text := answer.Text; text != ""; {
		piece := text[:min(len(text), maxPiece)]
		text = text[len(piece):]
		if err := r.answered(imsg.AppendString(nil, piece), nil); err != nil {
			return err
		}
	}
	return r.answered(imsg.AppendBool(imsg.AppendString(nil, ""), answer.Changed), nil)
}

// rememberPaused has the queue keep what mta was told to stop.
func (a *agent) rememberPaused(ctx context.Context) error {
	answer, err := a.front.Load().mta.Do(ctx, mta.Order{Verb: mta.ShowPaused})
	if err != nil {
		return err
	}
	return a.queue.KeepPausedRoutes(ctx, answer.Text)
}

// Relaying has mta carry out an order. It writes to w what there is to see, and
// reports whether anything changed.
func (c *Client) Relaying(o mta.Order, w io.Writer) (bool, error) {
	f, err := c.call(typeRelaying, o.Append(nil))
	for err == nil {
		r := imsg.NewReader(f.Data)
		text := r.String()
		if text == "" {
			changed := r.Bool()
			return changed, r.Close()
		}
		if err = r.Close(); err == nil {
			_, err = io.WriteString(w, text)
		}
		if err == nil {
			f, err = c.recv(typeRelaying)
		}
	}
	return false, fmt.Errorf("ask mta: %w", err)
}
