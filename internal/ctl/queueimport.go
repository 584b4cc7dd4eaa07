package ctl

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"smtpd/internal/opensmtpd"
	"smtpd/runtime/control"
	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// errLeft says that an import left messages where they were. Each was named.
var errLeft = errors.New("not everything was imported")

// An importRun is an import under way.
type importRun struct {
	*terminal
	options
	c *control.Client
	q queue.Import

	done, before, left int // messages
}

// queueImport takes over the messages in a spool of OpenSMTPD, or only says
// what would become of each. Words after the directory name the actions for
// envelopes of which the configuration has none.
func queueImport(try bool, actions ...string) func(*terminal, options, []string) error {
	return func(t *terminal, o options, names []string) error {
		q := queue.Import{Try: try}
		for i, kind := range actions {
			switch kind {
			case "relay":
				q.Relay = names[1+i]
			case "local":
				q.Local = names[1+i]
			}
		}
		return ask(t, func(c *control.Client) error {
			return (&importRun{terminal: t, options: o, c: c, q: q}).all(names[0])
		})
	}
}

func (r *importRun) all(dir string) error {
	spool, err := opensmtpd.Open(dir, r.askKey)
	if err != nil {
		return err
	}
	defer spool.Close()
	for m, err := range spool.Messages() {
		if err := r.one(m, err); err != nil {
			return err
		}
	}
	offline, err := spool.Offline()
	if err != nil {
		return err
	}
	if err := r.sum(offline); err != nil {
		return err
	}
	if r.left > 0 {
		return errLeft
	}
	return nil
}

// askKey reads the key of an encrypted queue.
func (r *importRun) askKey() (string, error) {
	fmt.Fprint(r.err, "key> ")
	line, err := bufio.NewReader(r.in).ReadString('\n')
	if err != nil && (err != io.EOF || line == "") {
		return "", fmt.Errorf("the queue is encrypted, and no key could be read: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// one takes over a message and says what became of it. What stands in its way
// does not stand in the way of the next.
func (r *importRun) one(m *opensmtpd.Message, err error) error {
	got := &queue.Imported{ID: m.ID}
	if err == nil {
		got, err = r.send(m)
	}
	if errors.Is(err, control.ErrIncompatible) {
		return err
	}
	if err == nil && !r.q.Try {
		err = m.Done()
	}
	var result string
	switch {
	case err != nil:
		result = "left: " + err.Error()
		r.left++
	case got.Already:
		result = "was imported before"
		r.before++
	case r.q.Try:
		result = "would be imported"
		r.done++
	default:
		result = "imported"
		r.done++
	}
	if err == nil && got.ID != m.ID {
		result += " as " + got.ID.String()
	}
	n := len(m.Envelopes)
	if r.json {
		return r.printJSON(map[string]any{"message": m.Name, "envelopes": n, "left": err != nil, "result": result})
	}
	_, err = fmt.Fprintf(r.out, "%s: %d envelope%s %s\n", oneLine(m.Name), n, plural(n), oneLine(result))
	return err
}

// send hands a message to the daemon.
func (r *importRun) send(m *opensmtpd.Message) (*queue.Imported, error) {
	f, err := os.CreateTemp("", "import")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	evs := make([]envelope.Envelope, len(m.Envelopes))
	for i := range m.Envelopes {
		evs[i] = m.Envelopes[i].Envelope
	}
	w := bufio.NewWriter(f)
	err = queue.WriteImport(w, evs)
	if err == nil {
		err = m.CopyContent(w)
	}
	if err = cmp.Or(err, w.Flush()); err != nil {
		f.Close()
		return nil, err
	}
	return r.c.Import(&r.q, f)
}

func (r *importRun) sum(offline int) error {
	if r.json {
		return r.printJSON(map[string]any{"imported": r.done, "before": r.before, "left": r.left, "offline": offline, "dry_run": r.q.Try})
	}
	verb := "imported"
	if r.q.Try {
		verb = "would be imported"
	}
	_, err := fmt.Fprintf(r.out, "%d message%s %s, %d before, %d left\n", r.done, plural(r.done), verb, r.before, r.left)
	if err == nil && offline > 0 {
		_, err = fmt.Fprintf(r.out, "%d message%s of sendmail in the directory offline: not imported\n", offline, plural(offline))
	}
	return err
}
