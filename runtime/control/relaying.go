package control

import (
	"context"
	"fmt"
	"io"
	"time"

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

// handOverTime bounds how long a reload waits to learn what is paused.
const handOverTime = 2 * time.Second

// keepPaused has mta of a new generation stop the mail that that of the old one
// had been told to stop.
func (a *agent) keepPaused(ctx context.Context, before, now *mta.Client) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	answer, err := before.Do(ctx, mta.Order{Verb: mta.ShowPaused})
	var source, domain string
	for text := answer.Text; err == nil && text != ""; {
		var n int
		if n, err = fmt.Sscanf(text, "%s -> %s\n", &source, &domain); n == 2 {
			_, err = now.Do(ctx, mta.Order{Verb: mta.Pause, Source: source, Domain: domain})
		}
		text = text[len(fmt.Sprintf("%s -> %s\n", source, domain)):]
	}
	if err != nil {
		a.log.Warn("control: mail that was paused may be sent again after the reload", "error", err)
	}
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
