package ctl

import (
	"bufio"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"smtpd/internal/where"
	"smtpd/runtime/control"
	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// matching visits the envelopes for which an expression holds. They come as
// the daemon lists them, so neither end holds more than a few.
func matching(c *control.Client, expr string) (iter.Seq2[queue.Listed, error], error) {
	q, err := where.Parse(expr)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", expr, err)
	}
	all := c.List(queue.Selection{})
	if q.NeedsSizes() {
		all = c.ListSized(queue.Selection{})
	}
	return func(yield func(queue.Listed, error) bool) {
		now := time.Now()
		for l, err := range all {
			if (err != nil || q.Match(&l, now)) && !yield(l, err) {
				return
			}
		}
	}, nil
}

// whereList prints the envelopes of an expression as show queue does.
func whereList(t *terminal, o options, names []string) error {
	out := bufio.NewWriter(t.out)
	encoder := json.NewEncoder(out)
	return ask(t, func(c *control.Client) error {
		list, err := matching(c, names[0])
		if err != nil {
			return err
		}
		for l, err := range list {
			switch {
			case err != nil:
			case o.json:
				err = encoder.Encode(asJSON(&l))
			default:
				_, err = out.WriteString(queueLine(&l))
			}
			if err != nil {
				return err
			}
		}
		return out.Flush()
	})
}

// whereCount prints how many envelopes an expression holds for.
func whereCount(t *terminal, o options, names []string) error {
	return ask(t, func(c *control.Client) error {
		n, err := countMatching(c, names[0], func(*envelope.Envelope) bool { return true })
		switch {
		case err != nil:
			return err
		case o.json:
			return t.printJSON(map[string]int{"envelopes": n})
		}
		_, err = fmt.Fprintf(t.out, "%d envelope%s\n", n, plural(n))
		return err
	})
}

func countMatching(c *control.Client, expr string, fits func(*envelope.Envelope) bool) (n int, err error) {
	list, err := matching(c, expr)
	if err != nil {
		return 0, err
	}
	for l, err := range list {
		switch {
		case err != nil:
			return n, err
		case fits(&l.Envelope):
			n++
		}
	}
	return n, nil
}

// wherePlan says how many envelopes would be dealt with.
func wherePlan(verb queue.Verb, done string) func(*terminal, options, []string) error {
	return func(t *terminal, o options, names []string) error {
		return ask(t, func(c *control.Client) error {
			n, err := countMatching(c, names[0], verb.Fits)
			switch {
			case err != nil:
				return err
			case o.json:
				return t.printJSON(map[string]any{done: n, "dry_run": true})
			}
			_, err = fmt.Fprintf(t.out, "%d envelope%s would be %s; add -y to do it\n", n, plural(n), done)
			return err
		})
	}
}

// whereDo does verb with the envelopes of an expression. A second connection
// takes the orders while the first goes on with the list.
func whereDo(verb queue.Verb, done string) func(*terminal, options, []string) error {
	return func(t *terminal, o options, names []string) error {
		order := queue.Order{Verb: verb}
		if verb == queue.Reroute {
			order.Action = names[1]
		}
		n := 0
		err := ask(t, func(c *control.Client) error {
			list, err := matching(c, names[0])
			if err != nil {
				return err
			}
			return ask(t, func(to *control.Client) (err error) {
				n, err = orderAll(to, order, list)
				return err
			})
		})
		switch {
		case err != nil && n > 0:
			return fmt.Errorf("after %d envelope%s: %w", n, plural(n), err)
		case err != nil:
			return err
		case o.json:
			return t.printJSON(map[string]any{done: n, "dry_run": false})
		}
		_, err = fmt.Fprintf(t.out, "%d envelope%s %s\n", n, plural(n), done)
		return err
	}
}

// orderAll has o done with what list visits, some at a time, and returns with
// how many envelopes it was.
func orderAll(c *control.Client, o queue.Order, list iter.Seq2[queue.Listed, error]) (n int, err error) {
	ids := make([]envelope.ID, 0, queue.MaxOrder)
	send := func() error {
		o.IDs = ids
		k, err := c.Order(&o)
		n, ids = n+k, ids[:0]
		return err
	}
	for l, err := range list {
		if err != nil {
			return n, err
		}
		if ids = append(ids, l.Envelope.ID); len(ids) == queue.MaxOrder {
			if err := send(); err != nil {
				return n, err
			}
		}
	}
	if len(ids) == 0 && o.Verb != queue.Reroute { // whose action is to be judged
		return n, nil
	}
	return n, send()
}

// showFields prints what an expression can ask.
func showFields(t *terminal, _ options, _ []string) error {
	for _, name := range where.Fields() {
		if _, err := fmt.Fprintf(t.out, "%-8s %s\n", name, where.About(name)); err != nil {
			return err
		}
	}
	return nil
}

// discover says how many envelopes an id names. OpenSMTPD is told by it of
// files that were put into its queue; ours knows what it has.
func discover(t *terminal, _ options, names []string) error {
	sel, _ := selection(names[0])
	return ask(t, func(c *control.Client) error {
		n := 0
		for _, err := range c.List(sel) {
			if err != nil {
				return err
			}
			n++
		}
		s := "s"
		if n == 1 {
			s = ""
		}
		_, err := fmt.Fprintf(t.out, "%d envelope%s discovered\n", n, s)
		return err
	})
}
