package mfa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/filter"
	"smtpd/runtime/milter"
)

// milterPhases are those in which milters have something to say.
var milterPhases = []string{"connect", "helo", "ehlo", "mail-from", "rcpt-to", "data", filter.DataLine, "commit"}

// A milterUse is a milter in one session. The session asks one thing at a time.
type milterUse struct {
	session *milter.Session // nil before the first question, and after a failure
	failed  bool            // in this session; with the next message it is called again
	done    bool            // it has accepted all that comes in this session
	passed  bool            // it has said all that it has to say of the message
	message *milter.Message
	macros  milter.Macros // of the message
	verdict milter.Answer // on the message, before its end
}

var errMilterLost = errors.New("the milter was lost in this session")

// milterUses are the milters of each session.
type milterUses struct {
	mu sync.Mutex
	by map[uint64]map[string]*milterUse // by session and filter
}

// open makes room for the milter of filter name in a session.
func (l *milterUses) open(session uint64, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = make(map[uint64]map[string]*milterUse)
	}
	if l.by[session] == nil {
		l.by[session] = make(map[string]*milterUse)
	}
	l.by[session][name] = new(milterUse)
}

// of returns the milter of filter name in a session, nil for a session that is
// not known.
func (l *milterUses) of(session uint64, name string) *milterUse {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[session][name]
}

// take forgets a session, or all of them, and returns their milters.
func (l *milterUses) take(session uint64, all bool) []*milterUse {
	l.mu.Lock()
	defer l.mu.Unlock()
	var uses []*milterUse
	for id, by := range l.by {
		if all || id == session {
			for _, u := range by {
				uses = append(uses, u)
			}
			delete(l.by, id)
		}
	}
	return uses
}

// hangUp ends the milters of a session.
func (a *agent) hangUp(session uint64) { closeAll(a.milters.take(session, false)) }

// forget ends all sessions with clients for programs and milters: smtp has lost
// them.
func (a *agent) forget() {
	closeAll(a.milters.take(0, true))
	for _, p := range a.programs {
		p.Forget(filter.In)
	}
}

func closeAll(uses []*milterUse) {
	for _, u := range uses {
		if u.session != nil {
			u.session.Close()
		}
	}
}

// askMilter puts a phase to a milter. The verdict's Do is 0 if the next filter
// is to be asked.
func (a *agent) askMilter(ctx context.Context, f *compile.Filter, p *Phase) (PhaseVerdict, error) {
	u := a.milters.of(p.Session.ID, f.Name)
	if u == nil {
		return PhaseVerdict{}, fmt.Errorf("milter %s: %w", f.Name, filter.ErrStranger)
	}
	answer, err := u.ask(ctx, p, func(ctx context.Context) (net.Conn, error) { return a.callMilter(ctx, f) })
	if err != nil {
		u.fail()
		return PhaseVerdict{}, fmt.Errorf("milter %s: %w", f.Name, err)
	}
	var v PhaseVerdict
	if p.Name == "commit" && u.message != nil {
		var changes milter.Changes
		answer, changes = u.message.Outcome()
		v.Changes = Changes(changes)
		u.message = nil
	}
	switch answer.Verdict {
	case milter.Refuse:
		v.Do, v.Text = compile.Reject, validReply(answer.Reply)
	case milter.Discard:
		v.Discard = p.Name == "commit" // until then it goes on as if nothing were
	}
	return v, nil
}

// fail gives the milter up for the rest of the message.
func (u *milterUse) fail() {
	if u.session != nil {
		u.session.Close()
	}
	u.session, u.failed, u.message = nil, true, nil
}

// ask puts a phase to the milter, which is called if it has to be.
func (u *milterUse) ask(ctx context.Context, p *Phase, dial milter.Dial) (milter.Answer, error) {
	goOn := milter.Answer{Verdict: milter.Continue}
	switch p.Name {
	case "mail-from":
		u.failed, u.passed, u.message, u.verdict = false, false, nil, goOn
		if u.session != nil && u.session.Err() != nil {
			u.session = nil
		}
	case "data":
		u.macros = milter.Macros{"i", p.Message.String()}
	}
	switch {
	case u.done, u.passed && p.Name != "commit":
		return goOn, nil
	case u.failed:
		return goOn, errMilterLost
	case u.session == nil:
		if a, err := u.introduce(ctx, p, dial); err != nil || a.Verdict != milter.Continue || p.Name == "connect" {
			return u.settle(p, a), err
		}
	}
	var a milter.Answer
	var err error
	switch p.Name {
	case "helo", "ehlo":
		a, err = u.session.Helo(ctx, p.Session.Helo, tlsMacros(p))
	case "mail-from":
		a, err = u.session.Mail(ctx, p.Sender.String(), mailMacros(p))
	case "rcpt-to":
		a, err = u.session.Rcpt(ctx, p.Rcpt.String(), milter.Macros{"{rcpt_addr}", p.Rcpt.String()})
	case "data": // the library has no word for it
		return goOn, nil
	case "commit":
		return u.verdict, nil
	default:
		return goOn, nil
	}
	return u.settle(p, a), err
}

// settle notes what an answer means for what comes.
func (u *milterUse) settle(p *Phase, a milter.Answer) milter.Answer {
	switch p.Name {
	case "connect", "helo", "ehlo":
		u.done = a.Verdict == milter.Accept
		return a
	}
	switch a.Verdict {
	case milter.Accept, milter.Discard:
		u.passed, u.verdict = true, a
	}
	return a
}

// introduce calls the milter and tells it what it has missed.
func (u *milterUse) introduce(ctx context.Context, p *Phase, dial milter.Dial) (milter.Answer, error) {
	s, err := milter.Open(ctx, dial)
	if err != nil {
		return milter.Answer{}, err
	}
	u.session = s
	name, addr := clientOf(&p.Session)
	a, err := s.Connect(ctx, name, addr, connectMacros(p))
	if err != nil || a.Verdict != milter.Continue || p.Name != "mail-from" {
		return a, err
	}
	return s.Helo(ctx, p.Session.Helo, tlsMacros(p))
}

// clientOf returns the client as milters are told of it: what comes over the
// local socket comes from this host.
func clientOf(s *Session) (name string, addr netip.AddrPort) {
	if s.Kind != engine.FromAddress {
		return "localhost", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	addr = netip.AddrPortFrom(s.Addr, 0)
	if s.RDNS == "" {
		return "[" + s.Addr.WithZone("").Unmap().String() + "]", addr
	}
	return s.RDNS, addr
}

func connectMacros(p *Phase) milter.Macros {
	name, addr := clientOf(&p.Session)
	return milter.Macros{
		"j", p.Session.SMTPName, "{daemon_name}", p.Session.Tag, "v", serverVersion,
		"{client_name}", name, "{client_addr}", addr.Addr().Unmap().String(),
	}
}

func tlsMacros(p *Phase) milter.Macros {
	if !p.Session.TLS {
		return nil
	}
	return milter.Macros{"{tls_version}", "TLS"}
}

func mailMacros(p *Phase) milter.Macros {
	m := milter.Macros{"{mail_addr}", p.Sender.String()}
	if p.Message != 0 {
		m = append(m, "i", p.Message.String())
	}
	if p.Session.Auth && p.Session.User != "" {
		m = append(m, "{auth_authen}", p.Session.User, "{auth_type}", "PLAIN")
	}
	return m
}

// callMilter has parent call a milter: this process may not. If it has the
// host by name, lka knows what that stands for.
func (a *agent) callMilter(ctx context.Context, f *compile.Filter) (net.Conn, error) {
	addrs := []netip.Addr{{}}
	if network, address, _ := f.Milter.Split(); network == "tcp" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if _, err := netip.ParseAddr(host); err != nil {
			if addrs, err = a.lookups.Addrs(ctx, host); err != nil {
				return nil, fmt.Errorf("find %s: %w", host, err)
			}
		}
	}
	var last error
	for _, addr := range addrs {
		file, err := a.caller.Milter(ctx, f.Name, addr)
		if err != nil {
			last = err
			continue
		}
		defer file.Close()
		return net.FileConn(file)
	}
	return nil, last
}

// milterStage begins to send the message of a session through a milter; nil if
// that has no more to say of it.
func (a *agent) milterStage(ctx context.Context, f *compile.Filter, session uint64) (stage, error) {
	u := a.milters.of(session, f.Name)
	switch {
	case u == nil:
		return nil, fmt.Errorf("milter %s: %w", f.Name, filter.ErrStranger)
	case u.done || u.passed:
		return nil, nil
	case u.failed || u.session == nil:
		return nil, fmt.Errorf("milter %s: %w", f.Name, errMilterLost)
	}
	u.message = u.session.Message(ctx, f.Bypass, u.macros)
	return u.message, nil
}
