package control

import (
	"context"
	"errors"
	"fmt"
	"os"

	"smtpd/runtime/imsg"
	"smtpd/runtime/queue"
)

// check has the queue look at all of its store, and sends what it finds as it
// is found.
func (a *agent) check(ctx context.Context, r *request) error {
	records, from := 0, ""
	for {
		page, err := a.queue.Check(ctx, from)
		if err != nil {
			return r.failed(err)
		}
		for i := range page.Findings {
			if err := r.answered(appendFinding(nil, &page.Findings[i]), nil); err != nil {
				return err
			}
		}
		records += page.Records
		if from = page.Next; from == "" {
			return r.answered(imsg.AppendUint64(imsg.AppendBool(nil, false), uint64(records)), nil)
		}
	}
}

// appendFinding appends a frame of an answer to typeCheck; one that begins
// with false is the last.
func appendFinding(b []byte, f *queue.Finding) []byte {
	const room = 4 << 10
	b = imsg.AppendBool(b, true)
	b = imsg.AppendString(imsg.AppendString(b, f.What[:min(len(f.What), room)]), f.Done[:min(len(f.Done), room)])
	return imsg.AppendBool(b, f.Old)
}

// CheckQueue has the daemon look for what is wrong with its queue, and mend
// it. It calls f with what is found, as it is found, and returns how many
// records there are.
func (c *Client) CheckQueue(f func(queue.Finding) error) (records int, err error) {
	m, err := c.call(typeCheck, nil)
	for err == nil {
		r := imsg.NewReader(m.Data)
		if !r.Bool() {
			records = int(r.Uint64())
			return records, r.Close()
		}
		found := queue.Finding{What: r.String(), Done: r.String(), Old: r.Bool()}
		if err = errors.Join(r.Close()); err == nil {
			err = f(found)
		}
		if err == nil {
			m, err = c.recv(typeCheck)
		}
	}
	return 0, fmt.Errorf("check the queue: %w", err)
}

// takeOver has the queue take over a message of another mail server.
func (a *agent) takeOver(ctx context.Context, r *request) error {
	if r.File == nil {
		return fmt.Errorf("import without a message: %w", errProtocol)
	}
	var q queue.Import
	if err := q.Parse(r.Data); err != nil {
		r.File.Close()
		return err
	}
	got, err := a.queue.Import(ctx, &q, r.File)
	if err != nil {
		return r.failed(err)
	}
	return r.answered(got.Append(nil), nil)
}

// Import takes over a message of another mail server, which is in f as
// queue.WriteImport says. It closes f.
func (c *Client) Import(q *queue.Import, f *os.File) (*queue.Imported, error) {
	m, err := c.pass(typeImport, q.Append(nil), f)
	if err != nil {
		return nil, err
	}
	got := new(queue.Imported)
	return got, got.Parse(m.Data)
}
