package mfa

import (
	"bufio"
	"cmp"
	"context"
	"errors"
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

// programsOf returns the programs that id stands for, in order.
func (a *agent) programsOf(id compile.FilterID) []*filter.Program {
	var l []*filter.Program
	for f := range members(a.rules, id) {
		if f.Proc != "" {
			l = append(l, a.programs[f.Proc])
		}
	}
	return l
}

// open makes a session known to the programs of its listener or relay action,
// and returns what they want to hear and be asked.
func (a *agent) open(ctx context.Context, d filter.Direction, q *sessionRef) (wanted, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	var w wanted
	for _, p := range a.programsOf(q.Filter) {
		r, err := p.Open(ctx, d, q.Session)
		if err != nil {
			return wanted{}, err
		}
		w.Events = union(w.Events, r.In(d))
		if d == filter.In {
			w.Phases = union(w.Phases, r.Phases)
		}
	}
	return w, nil
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
	for _, p := range a.programsOf(q.Filter) {
		p.Report(q.Session, events)
		if ended {
			p.Close(q.Session)
		}
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
	word := map[compile.Verdict]string{
		0: "proceed", compile.Reject: "reject", compile.Disconnect: "disconnect", compile.Rewrite: "rewrite", compile.Junk: "junk",
	}[v.Do]
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

// message passes the lines of a message through the programs that want them.
// It returns the other end of a stream socket: what is written there comes
// back as the last of them has made it.
func (a *agent) message(ctx context.Context, q *sessionRef) (*os.File, error) {
	var stages []*filter.Message
	fail := func(err error) (*os.File, error) {
		for _, m := range stages {
			m.Close()
		}
		return nil, err
	}
	for f := range members(a.rules, q.Filter) {
		if f.Proc == "" {
			continue
		}
		r, err := a.programs[f.Proc].Open(ctx, filter.In, q.Session)
		if err != nil {
			return fail(err)
		}
		if !r.Filters(filter.DataLine) {
			continue
		}
		m, err := a.programs[f.Proc].Message(q.Session)
		if err != nil {
			return fail(err)
		}
		stages = append(stages, m)
	}
	if len(stages) == 0 {
		return nil, errors.New("mfa: no filter wants the message")
	}
	ours, theirs, err := imsg.Stream("message")
	if err != nil {
		return fail(err)
	}
	go a.pump(ctx, ours, stages)
	return theirs, nil
}

// pump moves lines until the last has come back or something breaks, which
// the other end sees as a stream without its last line.
func (a *agent) pump(ctx context.Context, conn net.Conn, stages []*filter.Message) {
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
	last := len(stages) - 1
	run(func() error { return feed(conn, stages[0]) })
	for i := range last {
		run(func() error { return forward(ctx, stages[i], stages[i+1].Send) })
	}
	run(func() error {
		w := bufio.NewWriterSize(conn, 32<<10)
		return forward(ctx, stages[last], func(lines ...string) error {
			for _, line := range lines {
				w.WriteString(line)
				w.WriteByte('\n')
			}
			return w.Flush()
		})
	})
	wg.Wait()
	for _, m := range stages {
		m.Close()
	}
}

// feed sends what is read from r to the first program, up to the dot.
func feed(r io.Reader, to *filter.Message) error {
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
			if err := to.Send(batch...); err != nil || line == "." {
				return err
			}
			batch = batch[:0]
		}
	}
}

// forward hands on what a program sends, up to the dot.
func forward(ctx context.Context, from *filter.Message, send func(...string) error) error {
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
