package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/parent"
	"smtpd/runtime/queue"
)

// A request is a frame, who sent it, and how to answer.
type request struct {
	imsg.Frame
	uid   uint32
	admin bool // it came in on the administrator's socket
	reply func(...imsg.Frame) error
}

// answered sends one frame as the answer.
func (r *request) answered(data []byte, file *os.File) error {
	return r.reply(imsg.Frame{Type: r.Type, ID: r.ID, Data: data, File: file})
}

// failed says why nothing was done, or nothing more.
func (r *request) failed(err error) error {
	return r.reply(imsg.Frame{Type: typeFailed, ID: r.ID, Data: []byte(err.Error())})
}

var errProtocol = errors.New("not a request")

// answer does what a request asks for. An error ends the connection: the
// answer cannot be sent, or what came is no request, or not for this user.
func (a *agent) answer(ctx context.Context, r request) error {
	if r.File != nil && (r.Type != typeImport || !r.admin) {
		r.File.Close()
		return fmt.Errorf("a descriptor: %w", errProtocol)
	}
	requests.WithLabelValues().Inc()
	if r.Type != typeSession && !r.admin {
		return fmt.Errorf("type %d of a user: %w", r.Type, errProtocol)
	}
	switch r.Type {
	case typeSession, typeStatus, typeStats, typeMetrics, typeRules, typeRecent:
		if len(r.Data) > 0 {
			return fmt.Errorf("%d bytes behind the header: %w", len(r.Data), errProtocol)
		}
		switch r.Type {
		case typeStatus:
			return a.status(ctx, &r)
		case typeStats:
			return a.stats(ctx, &r)
		case typeMetrics:
			return a.metrics(ctx, &r)
		case typeRules:
			return a.rules(ctx, &r)
		case typeRecent:
			return a.recent(ctx, &r)
		}
		f, err := a.front.Load().smtp.Session(ctx, r.uid)
		if err != nil {
			return r.failed(err)
		}
		return r.answered(nil, f)
	case typeList:
		var q listRequest
		if err := q.parse(r.Data); err != nil {
			return err
		}
		return a.list(ctx, &r, q)
	case typeImport:
		return a.takeOver(ctx, &r)
	case typeCheck:
		if len(r.Data) > 0 {
			return fmt.Errorf("%d bytes behind the header: %w", len(r.Data), errProtocol)
		}
		return a.check(ctx, &r)
	case typeOrder:
		o, err := queue.ParseOrder(r.Data)
		if err != nil {
			return err
		}
		n, err := a.queue.Order(ctx, &o)
		if err != nil {
			return r.failed(err)
		}
		return r.answered(imsg.AppendUint32(nil, uint32(n)), nil)
	case typeManage:
		var q manageRequest
		if err := q.parse(r.Data); err != nil {
			return err
		}
		n, err := a.queue.Manage(ctx, q.Verb, q.Selection)
		if err != nil {
			return r.failed(err)
		}
		return r.answered(imsg.AppendUint32(nil, uint32(n)), nil)
	case typePause:
		var q pauseRequest
		if err := q.parse(r.Data); err != nil {
			return err
		}
		changed, err := a.pause(ctx, q)
		if err != nil {
			return r.failed(err)
		}
		return r.answered(imsg.AppendBool(nil, changed), nil)
	case typeMessage:
		sel, err := parseSelection(r.Data)
		if err != nil {
			return err
		}
		f, err := a.queue.Open(ctx, sel.Message)
		if err != nil {
			return r.failed(err)
		}
		return r.answered(nil, f)
	case typeVerbose:
		on, err := parseBool(r.Data)
		if err != nil {
			return err
		}
		level := slog.LevelInfo
		if on {
			level = slog.LevelDebug
		}
		a.level.Set(level)
		if a.tell != nil {
			a.tell(level)
		}
		return r.answered(nil, nil)
	case typeTrace:
		id, err := parseName(r.Data)
		if err != nil {
			return err
		}
		f, err := a.parent.Trace(ctx, id)
		if err != nil {
			return r.failed(err)
		}
		a.log.Info("control: trace", "id", id)
		return r.answered(nil, f)
	case typeUpdate:
		name, err := parseName(r.Data)
		if err != nil {
			return err
		}
		if err := a.front.Load().lka.UpdateNamed(ctx, name); err != nil {
			return r.failed(err)
		}
		return r.answered(nil, nil)
	case typeLookup:
		return a.lookup(ctx, &r)
	case typeRelaying:
		return a.relaying(ctx, &r)
	case typeExplain:
		return a.explain(ctx, &r)
	case typeReload:
		var q reloadRequest
		if err := q.parse(r.Data); err != nil {
			return err
		}
		return a.reload(ctx, &r, q)
	case typeStop:
		if len(r.Data) > 0 {
			return fmt.Errorf("%d bytes behind the header: %w", len(r.Data), errProtocol)
		}
		a.log.Info("stopped by administrator")
		if err := r.answered(nil, nil); err != nil { // later nobody may be there to answer
			return err
		}
		a.parent.Stop(ctx) // which may end before it answers
		return nil
	}
	return fmt.Errorf("type %d: %w", r.Type, errProtocol)
}

// reload has the configuration read anew, and sends what is to be said of it
// in pieces; the last frame says whether it is in force.
func (a *agent) reload(ctx context.Context, r *request, q reloadRequest) error {
	paused, err := a.front.Load().smtp.Paused(ctx)
	if err != nil {
		return r.failed(err)
	}
	done, err := a.parent.Reload(ctx, parent.Reload{Show: q.Show, Force: q.Force, Paused: paused})
	if err != nil {
		return r.failed(err)
	}
	for text := done.Text; text != ""; {
		piece := text[:min(len(text), maxPiece)]
		text = text[len(piece):]
		if err := r.answered(imsg.AppendString(nil, piece), nil); err != nil {
			return err
		}
	}
	return r.answered(imsg.AppendBool(imsg.AppendString(nil, ""), done.Done), nil)
}

// maxPiece is how much text of a reload one frame carries.
const maxPiece = 8 << 10

func (a *agent) status(ctx context.Context, r *request) error {
	s := Status{PID: a.pid, Started: a.started, Version: a.version}
	var err1, err2 error
	s.SMTP, err1 = a.front.Load().smtp.Paused(ctx)
	s.MDA, s.MTA, err2 = a.queue.Paused(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return r.failed(err)
	}
	return r.answered(s.append(nil), nil)
}

func (a *agent) pause(ctx context.Context, q pauseRequest) (changed bool, err error) {
	switch q.System {
	case MDA:
		return a.queue.Pause(ctx, envelope.MDA, q.On)
	case MTA:
		return a.queue.Pause(ctx, envelope.MTA, q.On)
	}
	// Kept first: an smtp that starts meanwhile asks the queue.
	if err := a.queue.KeepSMTPPaused(ctx, q.On); err != nil {
		return false, err
	}
	return a.front.Load().smtp.Pause(ctx, q.On)
}

// list sends the envelopes of sel as they come from the queue: neither end
// holds the list, and a client that does not read holds up only itself. A
// frame carries as many as it has room for.
func (a *agent) list(ctx context.Context, r *request, q listRequest) error {
	list, sel := a.queue.List, q.Selection
	if q.Sizes {
		list = a.queue.ListSized
	}
	var data, one []byte
	flush := func() error {
		if len(data) == 0 {
			return nil
		}
		err := r.answered(data, nil)
		data = data[:0]
		return err
	}
	for l, err := range list(ctx, sel.First()) {
		if err != nil {
			return errors.Join(flush(), r.failed(err))
		}
		if sel.Past(l.Envelope.ID) {
			break
		}
		if !sel.Holds(l.Envelope.ID) {
			continue
		}
		one = appendListed(one[:0], l)
		if len(data)+len(one) > imsg.MaxData {
			if err := flush(); err != nil {
				return err
			}
		}
		data = append(data, one...)
	}
	if err := flush(); err != nil {
		return err
	}
	return r.answered(nil, nil)
}
