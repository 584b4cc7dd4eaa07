package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// A checker is a Store that can look for what is wrong in it, and mend it.
type checker interface {
	// check visits up to n records from a place on, "" for the first. It
	// mends what can be mended, sets aside what cannot be read, and returns
	// what it has found and where to go on, "" at the end.
	check(from string, n int) (CheckPage, error)
}

// A CheckPage is what a check of some records has found.
type CheckPage struct {
	Next     string // where to go on; "" at the end
	Records  int    // that were looked at
	Findings []Finding
}

// A Finding is something that was wrong with the store.
type Finding struct {
	What string // is wrong, and with what
	Done string // about it
	Old  bool   // it was set aside before: evidence, nothing new

	// hold are envelopes whose message cannot be read.
	hold envelope.MessageID
}

// checkPieces is how many records are looked at in one step.
const checkPieces = 2000

func (p *CheckPage) append(b []byte) []byte {
	b = imsg.AppendUint32(imsg.AppendString(b, p.Next), uint32(p.Records))
	b = imsg.AppendUint32(b, uint32(len(p.Findings)))
	for i := range p.Findings {
		f := &p.Findings[i]
		b = imsg.AppendBool(imsg.AppendString(imsg.AppendString(b, f.What), f.Done), f.Old)
	}
	return b
}

func (p *CheckPage) parse(b []byte) error {
	r := imsg.NewReader(b)
	p.Next, p.Records = r.String(), int(r.Uint32())
	p.Findings = make([]Finding, r.Count(9))
	for i := range p.Findings {
		p.Findings[i] = Finding{What: r.String(), Done: r.String(), Old: r.Bool()}
	}
	return r.Close()
}

// check looks at some records of the store, and holds the envelopes of
// messages that cannot be read: nobody is to try them until an administrator
// has decided what becomes of them.
func (a *agent) check(from string) (CheckPage, error) {
	c, ok := a.store.(checker)
	if !ok {
		return CheckPage{}, errors.New("this store cannot be checked")
	}
	page, err := c.check(from, checkPieces)
	for i := range page.Findings {
		f := &page.Findings[i]
		if f.hold != 0 {
			n, herr := a.scheduler.manage(order{verb: Suspend}, a.scheduler.held(Selection{Message: f.hold}))
			err = errors.Join(err, herr)
			f.Done += fmt.Sprintf("; envelopes held: %d", n)
		}
		if !f.Old {
			a.log.Error("queue: check", "found", f.What, "done", f.Done)
		}
	}
	return page, err
}

func (s *pebbleStore) check(from string, n int) (CheckPage, error) {
	var page CheckPage
	next := []byte(from)
	if from == "" {
		next = []byte{0} // before every key
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: next})
	if err != nil {
		return page, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if page.Records == n {
			page.Next = string(it.Key())
			return page, nil
		}
		page.Records++
		v, err := it.ValueAndErr()
		next = append(next[:0], it.Key()...)
		if err != nil {
			break
		}
		if f, err := s.examine(next, v); err != nil {
			return page, fmt.Errorf("check of record %x: %w", next, err)
		} else if f != nil {
			page.Findings = append(page.Findings, *f)
		}
	}
	if err := it.Error(); err != nil {
		// A part of a file is damaged. What is behind it may be well.
		page.Findings = append(page.Findings, Finding{
			What: fmt.Sprintf("records from %x on cannot be read: %v", next, err), Done: "nothing: restore the store, or what is listed here is lost",
		})
		if len(next) > 0 && next[0] < 0xff {
			page.Next = string(next[0] + 1)
		}
	}
	return page, nil
}

// examine looks at one record, and once more if something seems wrong: it may
// have been changed since the iterator saw it. Only then is it mended.
func (s *pebbleStore) examine(key, raw []byte) (*Finding, error) {
	if f, _, err := s.judgeRecord(key, raw); f == nil || err != nil {
		return nil, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	raw, err := s.get(key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, mend, err := s.judgeRecord(key, raw)
	if f == nil || mend == nil || err != nil {
		return f, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	mend(b)
	return f, s.db.Apply(b, pebble.Sync)
}

// judgeRecord says what is wrong with a record, if anything is, and what mends
// it.
func (s *pebbleStore) judgeRecord(key, raw []byte) (*Finding, func(*pebble.Batch), error) {
	switch {
	case key[0] == keyEnvelope && len(key) == 9:
		return s.judgeEnvelope(key, raw)
	case key[0] == keyMessage && len(key) == 5:
		return s.judgeMessage(key, raw)
	case key[0] == keyContent && len(key) == 5:
		return s.judgeContent(key, raw)
	case key[0] == keyDue:
		e, err := parseEntry(key[1:], raw, nil)
		return s.judgeEntry(key, e, err)
	case key[0] == keyDestination:
		d, rest, err := parseDestination(key[1:])
		if err == nil {
			var e Entry
			e, err = parseEntry(rest, nil, &d)
			return s.judgeEntry(key, e, err)
		}
		return s.judgeEntry(key, Entry{}, err)
	case key[0] == keySetting:
		_, err := s.rec.parse(key, raw)
		return s.aside("setting "+string(key[1:]), key, raw, err)
	case key[0] == keyAside:
		shown := raw[:min(len(raw), 32)]
		return &Finding{What: fmt.Sprintf("%s, %d bytes: %x", recordName(key[1:]), len(raw), shown), Done: "was set aside before", Old: true}, nil, nil
	}
	return s.aside("record of no known kind", key, raw, ErrDamaged)
}

// recordName returns the name of a record in a report.
func recordName(key []byte) string {
	switch {
	case len(key) == 9 && key[0] == keyEnvelope:
		return "envelope " + envelope.ID(binary.BigEndian.Uint64(key[1:])).String()
	case len(key) == 5 && key[0] == keyMessage:
		return "message " + envelope.MessageID(binary.BigEndian.Uint32(key[1:])).String()
	case len(key) == 5 && key[0] == keyContent:
		return "content of message " + envelope.MessageID(binary.BigEndian.Uint32(key[1:])).String()
	}
	return fmt.Sprintf("record %x", key)
}

// aside finds that a record cannot be read, if err says so, and moves it away.
// A record of another key is mail, only not now.
func (s *pebbleStore) aside(name string, key, raw []byte, err error) (*Finding, func(*pebble.Batch), error) {
	switch {
	case err == nil:
		return nil, nil, nil
	case errors.Is(err, errLocked):
		return &Finding{What: fmt.Sprintf("%s: %v", name, err), Done: "nothing"}, nil, nil
	case !errors.Is(err, ErrDamaged):
		return nil, nil, err
	}
	return &Finding{What: fmt.Sprintf("%s: %v", name, err), Done: "set aside"}, func(b *pebble.Batch) {
		must(b.Set(asideKey(key), raw, nil))
		must(b.Delete(key, nil))
	}, nil
}

func (s *pebbleStore) judgeEnvelope(key, raw []byte) (*Finding, func(*pebble.Batch), error) {
	id := envelope.ID(binary.BigEndian.Uint64(key[1:]))
	name := recordName(key)
	var t stored
	p, err := s.rec.parse(key, raw)
	if err == nil {
		t, err = parseStored(p)
	}
	if err == nil && t.ev.ID != id {
		err = fmt.Errorf("holds another envelope: %w", ErrDamaged)
	}
	if err != nil {
		return s.aside(name, key, raw, err)
	}
	if ok, err := s.Has(id.Message()); err != nil {
		return nil, nil, err
	} else if !ok && t.ev.Flags&envelope.Suspended == 0 {
		return &Finding{What: name + ": its message is not there", Done: "nothing to deliver", hold: id.Message()}, nil, nil
	}
	at, waits := due(&t.ev)
	if !waits {
		return nil, nil, nil
	}
	// Only what is missing is put: a key is put once and deleted once.
	m := Mark{at, id}
	missing := make(map[string][]byte)
	for k, v := range map[string][]byte{string(dueKey(m)): appendDestination(nil, t.dest), string(destinationKey(t.dest, m)): nil} {
		switch _, err := s.get([]byte(k)); {
		case errors.Is(err, ErrNotFound):
			missing[k] = v
		case err != nil:
			return nil, nil, err
		}
	}
	if len(missing) == 0 {
		return nil, nil, nil
	}
	return &Finding{What: name + ": is not in the schedule", Done: "entered"}, func(b *pebble.Batch) {
		for k, v := range missing {
			must(b.Set([]byte(k), v, nil))
		}
	}, nil
}

func (s *pebbleStore) judgeEntry(key []byte, e Entry, err error) (*Finding, func(*pebble.Batch), error) {
	if err != nil {
		return s.aside("entry of the schedule", key, nil, err)
	}
	t, err := s.peek(e.ID)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
		return nil, nil, err
	}
	if at, ok := due(&t.ev); err == nil && ok && at.Equal(e.Due) && t.dest == e.Dest {
		return nil, nil, nil
	}
	return &Finding{What: fmt.Sprintf("entry of the schedule for envelope %v, which does not wait so", e.ID), Done: "removed"},
		func(b *pebble.Batch) { must(b.Delete(key, nil)) }, nil
}

// peek is stored for those who only look.
func (s *pebbleStore) peek(id envelope.ID) (t stored, err error) {
	key := envelopeKey(id)
	raw, err := s.get(key)
	if err != nil {
		return t, err
	}
	p, err := s.rec.parse(key, raw)
	if err != nil {
		return t, err
	}
	return parseStored(p)
}

func (s *pebbleStore) judgeMessage(key, raw []byte) (*Finding, func(*pebble.Batch), error) {
	id := envelope.MessageID(binary.BigEndian.Uint32(key[1:]))
	name := recordName(key)
	var m messageRecord
	p, err := s.rec.parse(key, raw)
	if err == nil {
		m, err = parseMessageRecord(p)
	}
	if err != nil {
		f, mend, err := s.aside(name, key, raw, err)
		if mend != nil {
			f.hold = id
		}
		return f, mend, err
	}
	first := envelopeKey(envelope.ID(id) << 32)[:5]
	wanted := false
	for _, prefix := range [...][]byte{first, asideKey(first)} {
		left, err := s.anyLeft(prefix, nil)
		if err != nil {
			return nil, nil, err
		}
		wanted = wanted || left
	}
	if !wanted {
		return s.aside(name, key, raw, fmt.Errorf("has no envelope: %w", ErrDamaged))
	}
	if err := s.readable(id, m); err != nil {
		return &Finding{What: fmt.Sprintf("%s: its content: %v", name, err), Done: "kept", hold: id}, nil, nil
	}
	return nil, nil, nil
}

// readable reports why the content of a message cannot be read, if so.
func (s *pebbleStore) readable(id envelope.MessageID, m messageRecord) error {
	if m.kind == inStore {
		raw, err := s.get(contentKey(id))
		if err == nil {
			_, err = s.rec.parse(contentKey(id), raw)
		}
		return err
	}
	f, err := s.spool.read(id, m.size, m.kind == inSpoolRec)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, f)
	if err == nil && n != m.size {
		err = fmt.Errorf("%d of %d bytes: %w", n, m.size, ErrDamaged)
	}
	return err
}

// judgeContent leaves what a message names to judgeMessage.
func (s *pebbleStore) judgeContent(key, raw []byte) (*Finding, func(*pebble.Batch), error) {
	id := envelope.MessageID(binary.BigEndian.Uint32(key[1:]))
	owner := messageKey(id)
	for _, k := range [...][]byte{owner, asideKey(owner)} {
		switch _, err := s.get(k); {
		case err == nil:
			return nil, nil, nil
		case !errors.Is(err, ErrNotFound):
			return nil, nil, err
		}
	}
	return s.aside(recordName(key), key, bytes.Clone(raw), fmt.Errorf("belongs to no message: %w", ErrDamaged))
}
