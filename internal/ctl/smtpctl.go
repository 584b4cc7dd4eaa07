package ctl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"smtpd/runtime/control"
	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// smtpctl does what args say and returns the exit status.
func smtpctl(t *terminal, args []string) int {
	var o options
	for len(args) > 0 && args[0] == "-j" {
		o.json = true
		args = args[1:]
	}
	c, names, possible := find(args)
	if c == nil {
		fmt.Fprintln(t.err, "possibilities are:")
		for _, p := range possible {
			fmt.Fprintf(t.err, "  %s\n", p)
		}
		return exitUsage
	}
	err := c.run(t, o, names)
	if errors.Is(err, errUnchanged) {
		fmt.Fprintln(t.out, "command failed")
		return exitFailed
	}
	switch {
	case errors.Is(err, errNotFound):
		return exitFailed
	case err != nil:
		return t.fail(err)
	}
	return exitOK
}

// errUnchanged says that a command had nothing to do.
var errUnchanged = errors.New("nothing changed")

// ask connects, runs f, and hangs up.
func ask(t *terminal, f func(*control.Client) error) error {
	c, err := t.admin()
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

// pause stops or resumes a system.
func pause(system string, on bool) func(*terminal, options, []string) error {
	s := map[string]control.System{"smtp": control.SMTP, "mda": control.MDA, "mta": control.MTA}[system]
	return func(t *terminal, _ options, _ []string) error {
		return ask(t, func(c *control.Client) error {
			changed, err := c.Pause(s, on)
			if err == nil && !changed {
				err = errUnchanged
			}
			return t.succeeded(err)
		})
	}
}

func logBrief(t *terminal, _ options, _ []string) error   { return verbose(t, false) }
func logVerbose(t *terminal, _ options, _ []string) error { return verbose(t, true) }

func verbose(t *terminal, on bool) error {
	return ask(t, func(c *control.Client) error { return t.succeeded(c.Verbose(on)) })
}

// reload has the configuration read anew. What was found goes to standard
// output whether it is in force or not.
func reload(show, force bool) func(*terminal, options, []string) error {
	return func(t *terminal, _ options, _ []string) error {
		return ask(t, func(c *control.Client) error {
			done, err := c.Reload(show, force, t.out)
			switch {
			case err == nil && !done:
				err = errUnchanged
			case show:
				return err
			}
			return t.succeeded(err)
		})
	}
}

// trace prints what the daemon logs about a session, a message or an envelope
// until it is interrupted.
func trace(t *terminal, _ options, names []string) error {
	return ask(t, func(c *control.Client) error {
		f, err := c.Trace(strings.ToLower(names[0]))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(t.out, f)
		return err
	})
}

func updateTable(t *terminal, _ options, names []string) error {
	return ask(t, func(c *control.Client) error { return t.succeeded(c.Update(names[0])) })
}

func stop(t *terminal, _ options, _ []string) error {
	return ask(t, func(c *control.Client) error { return t.succeeded(c.Stop()) })
}

// succeeded says so if err is nil, and returns err.
func (t *terminal) succeeded(err error) error {
	if err == nil {
		_, err = fmt.Fprintln(t.out, "command succeeded")
	}
	return err
}

// manage does verb with envelopes and says with how many.
func manage(verb queue.Verb, done string) func(*terminal, options, []string) error {
	return func(t *terminal, o options, names []string) error {
		var sel queue.Selection
		if len(names) > 0 {
			sel, _ = selection(names[0]) // it was found to be one
		}
		return ask(t, func(c *control.Client) error {
			n, err := c.Manage(verb, sel)
			switch {
			case err != nil:
				return err
			case o.json:
				return t.printJSON(map[string]int{done: n})
			case n == 0 && len(names) > 0:
				return errUnchanged
			}
			_, err = fmt.Fprintf(t.out, "%d envelope%s %s\n", n, plural(n), done)
			return err
		})
	}
}

func plural(n int) string {
	if n > 1 {
		return "s"
	}
	return ""
}

func (t *terminal) printJSON(v any) error { return json.NewEncoder(t.out).Encode(v) }

func showStatus(t *terminal, o options, _ []string) error {
	return ask(t, func(c *control.Client) error {
		s, err := c.Status()
		if err != nil {
			return err
		}
		if o.json {
			return t.printJSON(map[string]any{
				"version": s.Version, "pid": s.PID, "started": s.Started,
				"mda_paused": s.MDA, "mta_paused": s.MTA, "smtp_paused": s.SMTP,
			})
		}
		state := map[bool]string{false: "running", true: "paused"}
		_, err = fmt.Fprintf(t.out, "MDA %s\nMTA %s\nSMTP %s\n", state[s.MDA], state[s.MTA], state[s.SMTP])
		return err
	})
}

func showMessage(t *terminal, _ options, names []string) error {
	sel, _ := selection(names[0])
	msg := sel.Message
	if sel.Envelope != 0 {
		msg = sel.Envelope.Message()
	}
	return ask(t, func(c *control.Client) error {
		f, err := c.Message(msg)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(t.out, f)
		return err
	})
}

// showQueue prints a line for each envelope as it comes.
func showQueue(t *terminal, o options, names []string) error {
	var sel queue.Selection
	if len(names) > 0 {
		sel, _ = selection(names[0])
	}
	out := bufio.NewWriter(t.out)
	encoder := json.NewEncoder(out)
	err := ask(t, func(c *control.Client) error {
		for l, err := range c.List(sel) {
			if err != nil {
				return err
			}
			if o.json {
				err = encoder.Encode(asJSON(&l))
			} else {
				_, err = out.WriteString(queueLine(&l))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, out.Flush())
}

func showEnvelope(t *terminal, o options, names []string) error {
	sel, _ := selection(names[0])
	if sel.Envelope == 0 {
		return fmt.Errorf("%s names a message: name an envelope, 16 hexadecimal digits", names[0])
	}
	return ask(t, func(c *control.Client) error {
		for l, err := range c.List(sel) {
			switch {
			case err != nil:
				return err
			case l.Error != "":
				return fmt.Errorf("envelope %v: %s", l.Envelope.ID, l.Error)
			case o.json:
				return t.printJSON(asJSON(&l))
			}
			_, err = io.WriteString(t.out, envelopeText(&l.Envelope))
			return err
		}
		return fmt.Errorf("envelope %v is not in the queue", envelope.ID(sel.Envelope))
	})
}

// showWhy says of each envelope that an id names what it waits for.
func showWhy(t *terminal, o options, names []string) error {
	sel, _ := selection(names[0])
	return ask(t, func(c *control.Client) error {
		found := false
		for l, err := range c.List(sel) {
			if err != nil {
				return err
			}
			found = true
			if o.json {
				err = t.printJSON(asJSON(&l))
			} else {
				_, err = fmt.Fprintf(t.out, "%v to %s: %s\n", l.Envelope.ID, field(l.Envelope.Dest.String()), why(&l))
			}
			if err != nil {
				return err
			}
		}
		if !found {
			return fmt.Errorf("%s is not in the queue", names[0])
		}
		return nil
	})
}

func encryptOne(t *terminal, _ options, names []string) error {
	hash, err := hashPassword(names[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.out, hash)
	return err
}

func encryptLines(t *terminal, o options, _ []string) error {
	in := bufio.NewScanner(t.in)
	for in.Scan() {
		if err := encryptOne(t, o, []string{in.Text()}); err != nil {
			return err
		}
	}
	return in.Err()
}

// hashRounds makes a guess cost tens of milliseconds, and so a login.
const hashRounds = 100_000

// hashPassword returns a hash that every crypt(3) knows.
func hashPassword(password string) (string, error) {
	if password == "" || strings.ContainsRune(password, 0) {
		return "", errors.New("an empty password cannot be used")
	}
	h, err := shacrypt.New(shacrypt.WithSHA512(), shacrypt.WithIterations(hashRounds))
	if err != nil {
		return "", err
	}
	d, err := h.Hash(password)
	if err != nil {
		return "", err
	}
	return d.Encode(), nil
}
