package ctl

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"smtpd/runtime/control"
)

// monitor prints what happens, a line a second, until it is interrupted or the
// daemon ends.
func monitor(t *terminal, _ options, _ []string) error {
	return ask(t, func(c *control.Client) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		return watch(t.out, tick.C, func() (string, error) {
			var text strings.Builder
			err := c.Metrics(&text)
			return text.String(), err
		})
	})
}

// monitorHead stands above every 25 lines, in the columns of OpenSMTPD.
const monitorHead = "--- client ---  -- envelope --   ---- relay/delivery --- ------- misc -------\n" +
	"curr conn disc  curr  enq  deq   ok tmpfail prmfail loop expire remove bounce\n"

// watch prints a line now and at every tick. look returns the metrics, or an
// error, which ends it.
func watch(w io.Writer, tick <-chan time.Time, look func() (string, error)) error {
	var last digest
	for n := 0; ; n++ {
		text, err := look()
		if err != nil {
			return err
		}
		d := digestOf(text)
		if n == 0 {
			last = d
		}
		if n%25 == 0 {
			if n > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprint(w, monitorHead)
		}
		if _, err := fmt.Fprint(w, d.line(&last)); err != nil {
			return err
		}
		last = d
		if _, ok := <-tick; !ok {
			return nil
		}
	}
}

// A digest is the numbers that a line is made of, since the daemon started but
// for those that say what is now.
type digest struct {
	clients, connected           int
	envelopes, queued            int
	ok, tempfail, permfail, loop int
	expired, removed, bounces    int
}

func digestOf(metrics string) digest {
	return digest{
		clients: total(metrics, "smtpd_smtp_sessions", ""), connected: total(metrics, "smtpd_smtp_sessions_total", ""),
		envelopes: total(metrics, "smtpd_queue_envelopes", ""), queued: total(metrics, "smtpd_queue_envelopes_total", ""),
		ok:       total(metrics, "smtpd_queue_deliveries_total", `result="ok"`),
		tempfail: total(metrics, "smtpd_queue_deliveries_total", `result="tempfail"`),
		permfail: total(metrics, "smtpd_queue_deliveries_total", `result="permfail"`),
		loop:     total(metrics, "smtpd_queue_deliveries_total", `result="loop"`),
		expired:  total(metrics, "smtpd_queue_ended_total", `why="expired"`),
		removed:  total(metrics, "smtpd_queue_ended_total", `why="removed"`),
		bounces:  total(metrics, "smtpd_queue_reports_total", ""),
	}
}

// total returns the sum of the values of a metric that has a label.
func total(metrics, name, label string) (sum int) {
	for line := range strings.Lines(metrics) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' || !strings.Contains(rest, label) {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64); err == nil {
			sum += int(v)
		}
	}
	return sum
}

// line returns what has happened since last.
func (d *digest) line(last *digest) string {
	left := last.clients + d.connected - last.connected - d.clients
	dequeued := last.envelopes + d.queued - last.queued - d.envelopes
	return fmt.Sprintf("%4d %4d %4d  %4d %4d %4d %4d    %4d    %4d %4d   %4d   %4d   %4d\n",
		d.clients, d.connected-last.connected, max(left, 0),
		d.envelopes, d.queued-last.queued, max(dequeued, 0),
		d.ok-last.ok, d.tempfail-last.tempfail, d.permfail-last.permfail, d.loop-last.loop,
		d.expired-last.expired, d.removed-last.removed, d.bounces-last.bounces)
}
