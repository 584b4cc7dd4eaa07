package ctl

import (
	"errors"
	"fmt"

	"smtpd/runtime/control"
	"smtpd/runtime/queue"
)

// errFound says that a check found something. All is said by then.
var errFound = errors.New("something was wrong with the queue")

// queueCheck has the daemon check its queue, and prints what was wrong, and
// what was done about it.
func queueCheck(t *terminal, o options, _ []string) error {
	return ask(t, func(c *control.Client) error {
		wrong, old := 0, 0
		records, err := c.CheckQueue(func(f queue.Finding) error {
			if f.Old {
				old++
			} else {
				wrong++
			}
			if o.json {
				return t.printJSON(map[string]any{"found": f.What, "done": f.Done, "before": f.Old})
			}
			_, err := fmt.Fprintf(t.out, "%s: %s\n", oneLine(f.What), oneLine(f.Done))
			return err
		})
		switch {
		case err != nil:
			return err
		case o.json:
			err = t.printJSON(map[string]int{"records": records, "wrong": wrong, "set_aside_before": old})
		default:
			_, err = fmt.Fprintf(t.out, "%d records checked, %d wrong, %d set aside before\n", records, wrong, old)
		}
		if err == nil && wrong > 0 {
			err = errFound
		}
		return err
	})
}
