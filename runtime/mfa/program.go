package mfa

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/runtime/filter"
	"smtpd/runtime/imsg"
)

// serverVersion is what filters of protocol 0.7 were written against.
const serverVersion = "7.8.0-portable"

// sessionTimeout is what programs are told, in seconds.
const sessionTimeout = 300

// openTime is how long a new session waits for a program that is being
// started.
const openTime = 30 * time.Second

// newPrograms returns the programs among the filters, by the names of their
// processes.
func (a *agent) newPrograms() map[string]*filter.Program {
	programs := make(map[string]*filter.Program)
	for i := range a.rules.Filters {
		name := a.rules.Filters[i].Proc
		if name == "" || programs[name] != nil {
			continue
		}
		programs[name] = filter.New(filter.Config{
			Name: name, Log: a.log, ServerVersion: serverVersion, Admd: cmp.Or(a.rules.ADMD, a.rules.ServerName), Timeout: sessionTimeout,
			Subsystems: subsystems(a.rules, name),
			Start:      func(ctx context.Context) (net.Conn, error) { return a.startProgram(ctx, name) },
		})
	}
	return programs
}

// subsystems returns the directions of the sessions that a program hears of:
// those of listeners, and those of relay actions.
func subsystems(rs *compile.Ruleset, proc string) []filter.Direction {
	uses := func(id compile.FilterID) bool {
		if id != 0 {
			for f := range members(rs, id) {
				if f.Proc == proc {
					return true
				}
			}
		}
		return false
	}
	var l []filter.Direction
	if uses(rs.Socket.Filter) || slices.ContainsFunc(rs.Listeners, func(l compile.Listener) bool { return uses(l.Filter) }) {
		l = append(l, filter.In)
	}
	if slices.ContainsFunc(rs.Actions, func(a compile.Action) bool { return uses(a.Relay.Filter) }) {
		l = append(l, filter.Out)
	}
	return l
}

// startProgram has parent run a program: this process may not.
func (a *agent) startProgram(ctx context.Context, name string) (net.Conn, error) {
	f, err := a.starter.Program(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}

// bypassTime is how long a new session waits for a program without which it
// goes on.
const bypassTime = 2 * time.Second

// open makes a session known to the programs and milters of its listener or
// relay action, and returns what they want to hear and be asked.
func (a *agent) open(ctx context.Context, d filter.Direction, q *sessionRef) (wanted, error) {
	var w wanted
	for f := range members(a.rules, q.Filter) {
		switch {
		case f.Proc != "":
			r, err := a.openProgram(ctx, f, d, q.Session)
			if err != nil {
				return wanted{}, err
			}
			w.Events = union(w.Events, r.In(d))
			if d == filter.In {
				w.Phases = union(w.Phases, r.Phases)
			}
		case f.Milter != "" && d == filter.In:
			a.milters.open(q.Session, f.Name)
			w.Events = union(w.Events, []string{"link-disconnect"})
			w.Phases = union(w.Phases, milterPhases)
		}
	}
	return w, nil
}

// openProgram waits for a program that is being started, for a while.
func (a *agent) openProgram(ctx context.Context, f *compile.Filter, d filter.Direction, session uint64) (filter.Registration, error) {
	patience := openTime
	if f.Bypass {
		patience = bypassTime
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := a.programs[f.Proc].Open(waiting, d, session)
	if err != nil && f.Bypass && ctx.Err() == nil {
		a.log.Warn("filter bypassed", "filter", f.Name, "err", err)
		return filter.Registration{}, nil
	}
	return r, err
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// tell reports what has happened in a session, in order.
func (a *agent) tell(q *sessionRef, events []filter.Event) {
	if len(events) == 0 {
		return
	}
	ended := slices.ContainsFunc(events, func(e filter.Event) bool { return e.Name == "link-disconnect" })
	for f := range members(a.rules, q.Filter) {
		if f.Proc == "" {
			continue
		}
		p := a.programs[f.Proc]
		p.Report(q.Session, events)
		if ended {
			p.Close(q.Session)
		}
	}
	if ended {
		a.hangUp(q.Session)
	}
}

// ask puts a phase to a program. The verdict's Do is 0 if the next filter is
// to be asked.
func (a *agent) ask(ctx context.Context, f *compile.Filter, p *Phase) (v PhaseVerdict, err error) {
	answer, err := a.programs[f.Proc].Ask(ctx, p.Name, p.Session.ID, parameter(p))
	if err != nil {
		return v, err
	}
	v.Text = answer.Text
	switch answer.Decision {
	case filter.Junk:
		v.Do = compile.Junk
	case filter.Reject:
		v.Do, v.Text = compile.Reject, validReply(answer.Text)
	case filter.Disconnect:
		v.Do, v.Text = compile.Disconnect, validReply(answer.Text)
	case filter.Rewrite:
		v.Do = compile.Rewrite
	case filter.Report:
		a.noteReport(p, "proc", f.Name, answer.Text)
	}
	return v, nil
}

// noteReport tells the programs of a session what one of its filters reports.
func (a *agent) noteReport(p *Phase, kind, name, text string) {
	a.tell(&sessionRef{p.Filter, p.Session.ID}, []filter.Event{{
		At: time.Now(), Name: "filter-report", Text: kind + "|" + name + "|" + text,
	}})
}

// replyInternal takes the place of what a program gave for a reply and is
// none.
const replyInternal = "421 Internal server error"

func validReply(line string) string {
	if len(line) > 4 && (line[0] == '4' || line[0] == '5') && digit(line[1]) && digit(line[2]) && line[3] == ' ' &&
		!strings.ContainsAny(line, "\r\x00") && len(line) <= 510 {
		return line
	}
	return replyInternal
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// parameter is what a program is asked about.
func parameter(p *Phase) string {
	switch p.Name {
	case "connect":
		rdns := p.Session.RDNS
		if rdns == "" {
			rdns = "<unknown>"
		}
		return rdns + "|" + source(&p.Session)
	case "helo", "ehlo":
		return p.Session.Helo
	case "auth":
		return p.Argument
	case "mail-from":
		return p.Sender.String()
	case "rcpt-to":
		return p.Rcpt.String()
	}
	return ""
}

// eventPhases are the names that reports have for phases where they differ.
var eventPhases = map[string]string{"connect": "connected", "starttls": "tls"}

// respond reports a verdict.
func (a *agent) respond(p *Phase, v *PhaseVerdict) {
	word := v.word()
	if v.Discard { // of a milter: programs know no such thing
		word = "proceed"
	}
	phase := p.Name
	if other, ok := eventPhases[phase]; ok {
		phase = other
	}
	text := phase + "|" + word
	if v.Do != 0 && v.Do != compile.Junk {
		text += "|" + v.Text
	}
	a.tell(&sessionRef{p.Filter, p.Session.ID}, []filter.Event{{At: time.Now(), Name: "filter-response", Text: text}})
}

// A stage is a program or a milter that a message goes through.
type stage interface {
	Send(lines ...string) error
	Next(ctx context.Context) ([]string, error) // io.EOF after the dot
	Close()
}

// message passes the lines of a message through the programs and milters that
// want them. It returns the other end of a stream socket: what is written there
// comes back as the last of them has made it.
func (a *agent) message(ctx context.Context, q *sessionRef) (*os.File, error) {
	ctx, cancel := context.WithCancel(ctx)
	stages, err := a.stages(ctx, q)
	var ours net.Conn
	var theirs *os.File
	if err == nil {
		ours, theirs, err = imsg.Stream("message")
	}
	if err != nil {
		cancel()
		closeStages(stages)
		return nil, err
	}
	go func() {
		defer cancel()
		a.pump(ctx, ours, stages)
	}()
	return theirs, nil
}

func closeStages(stages []stage) {
	for _, s := range stages {
		s.Close()
	}
}

// stages returns what a message goes through, in order; with an error what was
// begun of it.
func (a *agent) stages(ctx context.Context, q *sessionRef) (stages []stage, err error) {
	for f := range members(a.rules, q.Filter) {
		if !f.Process() {
			continue
		}
		var s stage
		if f.Milter != "" {
			s, err = a.milterStage(ctx, f, q.Session)
		} else {
			s, err = a.programStage(f, q.Session)
		}
		switch {
		case err != nil && f.Bypass:
			a.log.Warn("filter bypassed", "filter", f.Name, "phase", filter.DataLine, "err", err)
		case err != nil:
			return stages, err
		case s != nil:
			stages = append(stages, s)
		}
	}
	return stages, nil
}

// programStage begins to send a message to a program; nil if it does not want
// it.
func (a *agent) programStage(f *compile.Filter, session uint64) (stage, error) {
	p := a.programs[f.Proc]
	r, err := p.Registration(session)
	if err != nil || !r.Filters(filter.DataLine) {
		return nil, err
	}
	m, err := p.Message(session)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// pump moves lines until the last has come back or something breaks, which
// the other end sees as a stream without its last line.
func (a *agent) pump(ctx context.Context, conn net.Conn, stages []stage) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				if ctx.Err() == nil {
					a.log.Warn("filter: message lost", "err", err)
				}
				cancel()
			}
		})
	}
	w := bufio.NewWriterSize(conn, 32<<10)
	back := func(lines ...string) error {
		for _, line := range lines {
			w.WriteString(line)
			w.WriteByte('\n')
		}
		return w.Flush()
	}
	send := back
	for _, s := range slices.Backward(stages) {
		next := send
		run(func() error { return forward(ctx, s, next) })
		send = s.Send
	}
	run(func() error { return feed(conn, send) })
	wg.Wait()
	closeStages(stages)
}

// feed sends what is read from r, up to the dot.
func feed(r io.Reader, send func(...string) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var batch []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err // also io.EOF: there is no dot, the session is gone
		}
		line = line[:len(line)-1]
		batch = append(batch, line)
		if line == "." || in.Buffered() == 0 || len(batch) == 64 {
			if err := send(batch...); err != nil || line == "." {
				return err
			}
			batch = batch[:0]
		}
	}
}

// forward hands on what a stage makes of the message, up to the dot.
func forward(ctx context.Context, from stage, send func(...string) error) error {
	for {
		lines, err := from.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(lines...); err != nil {
			return err
		}
	}
}

// A sessionRef names a session and the filter of its listener.
type sessionRef struct {
	Filter  compile.FilterID
	Session uint64
}

func (q *sessionRef) append(b []byte) []byte {
	return imsg.AppendUint64(imsg.AppendUint32(b, uint32(q.Filter)), q.Session)
}

func (q *sessionRef) read(r *imsg.Reader) {
	q.Filter, q.Session = compile.FilterID(r.Uint32()), r.Uint64()
}

func (q *sessionRef) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.read(r)
	return r.Close()
}

// wanted is what the programs of a listener want to hear and be asked.
type wanted struct {
	Events, Phases []string
}

func (w *wanted) append(b []byte) []byte {
	return imsg.AppendStrings(imsg.AppendStrings(b, w.Events), w.Phases)
}

func (w *wanted) parse(b []byte) error {
	r := imsg.NewReader(b)
	w.Events, w.Phases = r.Strings(), r.Strings()
	return r.Close()
}

// happened is a report of events.
type happened struct {
	At     sessionRef
	Events []filter.Event
}

func (h *happened) append(b []byte) []byte { return appendEvents(h.At.append(b), h.Events) }

func (h *happened) parse(b []byte) error {
	r := imsg.NewReader(b)
	h.At.read(r)
	h.Events = readEvents(r)
	return r.Close()
}

func appendEvents(b []byte, l []filter.Event) []byte {
	b = imsg.AppendUint32(b, uint32(len(l)))
	for i := range l {
		b = imsg.AppendTime(b, l[i].At)
		b = imsg.AppendString(imsg.AppendString(b, l[i].Name), l[i].Text)
	}
	return b
}

func readEvents(r *imsg.Reader) (l []filter.Event) {
	for range r.Count(16) {
		l = append(l, filter.Event{At: r.Time(), Name: r.String(), Text: r.String()})
	}
	return l
}
