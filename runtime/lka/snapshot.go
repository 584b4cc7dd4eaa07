package lka

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// A Snapshot is what a table that is a file held at one time. Values are
// left out: rules and filters ask for keys alone.
type Snapshot struct {
	Version Version
	Entries []compile.Entry // normal, as in a Ruleset
}

// partSize is how much of a snapshot travels in one message, in bytes.
const partSize = 1 << 20

// maxMoved is how often a snapshot is begun anew because the table changed
// while it travelled.
const maxMoved = 10

// maxReserved bounds for how many entries room is made before they come.
const maxReserved = 1 << 21

var errMoved = errors.New("the table changes faster than it can be sent")

// Snapshot returns what table t holds. If that is the version that the
// caller has, Entries are nil.
func (c *Client) Snapshot(ctx context.Context, t compile.TableID, have Version) (Snapshot, error) {
	for range maxMoved {
		s, err := c.snapshot(ctx, t, have)
		if !errors.Is(err, errMoved) {
			return s, err
		}
	}
	return Snapshot{}, errMoved
}

func (c *Client) snapshot(ctx context.Context, t compile.TableID, have Version) (Snapshot, error) {
	q := snapshotQuery{Table: t, Version: have}
	var s Snapshot
	for {
		var p snapshotPart
		if err := c.call(ctx, msgSnapshot, q, &p); err != nil {
			return Snapshot{}, err
		}
		switch {
		case q.From > 0 && p.Version != s.Version:
			return Snapshot{}, errMoved
		case p.Version == have:
			return Snapshot{Version: have}, nil
		case q.From == 0:
			s = Snapshot{p.Version, make([]compile.Entry, 0, min(p.Total, maxReserved))}
		}
		for _, key := range p.Keys {
			s.Entries = append(s.Entries, compile.Entry{Key: key})
		}
		switch {
		case len(s.Entries) == int(p.Total):
			return s, nil
		case len(p.Keys) == 0 || len(s.Entries) > int(p.Total):
			return Snapshot{}, fmt.Errorf("snapshot of table %d: %w", t, imsg.ErrPayload)
		}
		q = snapshotQuery{t, p.Version, uint32(len(s.Entries))}
	}
}

// part answers a request for a snapshot.
func (s *static) part(q snapshotQuery) snapshotPart {
	c := s.content.Load()
	p := snapshotPart{Version: c.version, Total: uint32(len(c.entries))}
	if same := q.Version == c.version; same != (q.From > 0) || q.From > p.Total {
		return p // the asker has it, or has a part of another version
	}
	for size, rest := 0, c.entries[q.From:]; size < partSize && len(p.Keys) < len(rest); {
		key := rest[len(p.Keys)].Key
		size += len(key) + 4
		p.Keys = append(p.Keys, key)
	}
	return p
}

// A snapshotQuery asks for a part of what a table holds: its beginning if
// that is not Version, or with From what follows that many entries of
// Version.
type snapshotQuery struct {
	Table   compile.TableID
	Version Version
	From    uint32
}

func (q snapshotQuery) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(q.Table))
	b = imsg.AppendUint64(b, uint64(q.Version))
	return imsg.AppendUint32(b, q.From)
}

func (q *snapshotQuery) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Table = compile.TableID(r.Uint32())
	q.Version = Version(r.Uint64())
	q.From = r.Uint32()
	return r.Close()
}

// A snapshotPart is some of the keys of a table, and how many there are in
// all. On the wire their lengths come first, and then their text in one.
type snapshotPart struct {
	Version Version
	Total   uint32
	Keys    []string
}

func (p snapshotPart) append(b []byte) []byte {
	b = imsg.AppendUint64(b, uint64(p.Version))
	b = imsg.AppendUint32(b, p.Total)
	b = imsg.AppendUint32(b, uint32(len(p.Keys)))
	for _, k := range p.Keys {
		b = imsg.AppendUint32(b, uint32(len(k)))
	}
	return imsg.AppendString(b, strings.Join(p.Keys, ""))
}

func (p *snapshotPart) parse(b []byte) error {
	r := imsg.NewReader(b)
	p.Version = Version(r.Uint64())
	p.Total = r.Uint32()
	p.Keys = nil
	lengths := make([]uint32, r.Count(4))
	total := uint64(0)
	for i := range lengths {
		lengths[i] = r.Uint32()
		total += uint64(lengths[i])
	}
	text := r.String()
	if total != uint64(len(text)) {
		r.Fail()
	}
	if err := r.Close(); err != nil {
		return err
	}
	for _, n := range lengths {
		p.Keys = append(p.Keys, text[:n])
		text = text[n:]
	}
	return nil
}

// A change says that a table has come to hold another version.
type change struct {
	Table   compile.TableID
	Version Version
}

func (c change) append(b []byte) []byte {
	return imsg.AppendUint64(imsg.AppendUint32(b, uint32(c.Table)), uint64(c.Version))
}

func (c *change) parse(b []byte) error {
	r := imsg.NewReader(b)
	c.Table = compile.TableID(r.Uint32())
	c.Version = Version(r.Uint64())
	return r.Close()
}

// ChangeHandler returns what mfa serves lka with: f is told of every version
// of a table that is a file, and returns when it is in force.
func ChangeHandler(f func(ctx context.Context, t compile.TableID, v Version) error) imsg.Handler {
	return func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
		if m.File != nil {
			m.File.Close()
		}
		if m.Type != msgChange {
			return imsg.Message{}, fmt.Errorf("no requests of type %d here", m.Type)
		}
		var c change
		if err := c.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{}, f(ctx, c.Table, c.Version)
	}
}
