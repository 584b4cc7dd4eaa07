package control

import (
	"context"
	"fmt"
	"io"
	"strings"
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
	select {
	case <-a.restored:
	case <-ctx.Done():
		return ctx.Err()
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

// handOverTime bounds how long a reload waits for an mta to be told what is
// paused.
const handOverTime = 2 * time.Second

// keepPausedSoon is keepPaused for a reload.
func (a *agent) keepPausedSoon(ctx context.Context, now *mta.Client) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	a.keepPaused(ctx, now)
}

// rememberPaused has the queue keep what mta was told to stop.
func (a *agent) rememberPaused(ctx context.Context) error {
	answer, err := a.front.Load().mta.Do(ctx, mta.Order{Verb: mta.ShowPaused})
	if err != nil {
		return err
	}
	return a.queue.KeepPausedRoutes(ctx, answer.Text)
}

// keepPaused has an mta that has come stop the mail that those before it had
// been told to stop.
func (a *agent) keepPaused(ctx context.Context, now *mta.Client) {
	text, err := a.queue.PausedRoutes(ctx)
	var source, domain string
	for line := range strings.Lines(text) {
		if n, _ := fmt.Sscanf(line, "%s -> %s\n", &source, &domain); n == 2 && err == nil {
			_, err = now.Do(ctx, mta.Order{Verb: mta.Pause, Source: source, Domain: domain})
		}
	}
	if err != nil && ctx.Err() != context.Canceled {
		a.log.Warn("control: mail that was paused may be sent again", "error", err)
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
