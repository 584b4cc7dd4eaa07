package mfa

import (
	"cmp"
	"net/netip"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
)

// The requests.
const (
	msgRcpt uint32 = iota + 1
	msgPhase
	msgOpen    // a session begins whose listener has programs
	msgEvents  // what happened in one
	msgMessage // pass a message through them; answered with a descriptor
)

// A Session is what rules can ask about a client, and what envelopes keep of
// it.
type Session struct {
	ID       uint64
	Kind     engine.SourceKind
	Addr     netip.Addr // for engine.FromAddress
	Tag      string     // of the listener
	SMTPName string     // server name shown to the client
	Helo     string
	RDNS     string // "" if the client has no reverse name
	Auth     bool
	User     string
	TLS      bool
}

// A Rcpt is one RCPT command.
type Rcpt struct {
	Message envelope.MessageID
	Session Session
	Sender  envelope.Address
	Rcpt    envelope.Address
	Flags   envelope.Flags // that the client's parameters stand for
	Notify  envelope.Notify
	Ret     string
	EnvID   string
	ORcpt   string

	// Anew takes all recipients from the message that it has got so far, and
	// begins its list again.
	Anew bool
	// Hold, if not empty, is why the mail is not to be delivered until an
	// administrator says so.
	Hold string
}

func (s *Session) append(b []byte) []byte {
	b = imsg.AppendUint64(b, s.ID)
	b = append(b, byte(s.Kind))
	var addr []byte
	if s.Kind == engine.FromAddress { // of others no address is anyone's business
		addr = s.Addr.AsSlice()
	}
	b = imsg.AppendBytes(b, addr)
	for _, v := range [...]string{s.Tag, s.SMTPName, s.Helo, s.RDNS} {
		b = imsg.AppendString(b, v)
	}
	b = imsg.AppendBool(b, s.Auth)
	b = imsg.AppendString(b, s.User)
	return imsg.AppendBool(b, s.TLS)
}

func (s *Session) read(r *imsg.Reader) {
	s.ID = r.Uint64()
	s.Kind = engine.SourceKind(r.Byte())
	if s.Kind < engine.FromAddress || s.Kind > engine.FromInternal {
		r.Fail()
	}
	var ok bool
	s.Addr, ok = netip.AddrFromSlice(r.Bytes())
	if ok != (s.Kind == engine.FromAddress) {
		r.Fail()
	}
	for _, v := range [...]*string{&s.Tag, &s.SMTPName, &s.Helo, &s.RDNS} {
		*v = r.String()
	}
	s.Auth = r.Bool()
	s.User = r.String()
	s.TLS = r.Bool()
}

func appendAddress(b []byte, a envelope.Address) []byte {
	return imsg.AppendString(imsg.AppendString(b, a.User), a.Domain)
}

func readAddress(r *imsg.Reader) envelope.Address {
	return envelope.Address{User: r.String(), Domain: r.String()}
}

func (q *Rcpt) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(q.Message))
	b = q.Session.append(b)
	b = appendAddress(b, q.Sender)
	b = appendAddress(b, q.Rcpt)
	b = append(b, byte(q.Flags), byte(q.Notify))
	for _, v := range [...]string{q.Ret, q.EnvID, q.ORcpt, q.Hold} {
		b = imsg.AppendString(b, v)
	}
	return imsg.AppendBool(b, q.Anew)
}

func (q *Rcpt) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Message = envelope.MessageID(r.Uint32())
	q.Session.read(r)
	q.Sender = readAddress(r)
	q.Rcpt = readAddress(r)
	q.Flags = envelope.Flags(r.Byte())
	if q.Flags&^(envelope.SMTPUTF8|envelope.RequireTLS) != 0 {
		r.Fail() // all else is not the client's to say
	}
	q.Notify = envelope.Notify(r.Byte())
	for _, v := range [...]*string{&q.Ret, &q.EnvID, &q.ORcpt, &q.Hold} {
		*v = r.String()
	}
	q.Anew = r.Bool()
	return r.Close()
}

// A verdict answers a Rcpt: Reply is empty for a recipient that is accepted.
type verdict struct {
	Reply string
	IDs   []envelope.ID
}

func (v verdict) append(b []byte) []byte {
	b = imsg.AppendString(b, v.Reply)
	b = imsg.AppendUint32(b, uint32(len(v.IDs)))
	for _, id := range v.IDs {
		b = imsg.AppendUint64(b, uint64(id))
	}
	return b
}

func (v *verdict) parse(b []byte) error {
	r := imsg.NewReader(b)
	v.Reply = r.String()
	v.IDs = nil
	for range r.Count(8) {
		v.IDs = append(v.IDs, envelope.ID(r.Uint64()))
	}
	return r.Close()
}

// A Phase is the moment of a session at which its filters are asked. What is
// not known yet is empty.
type Phase struct {
	Filter  compile.FilterID // of the listener; not 0
	Name    string           // as filters name it: "connect", "helo", "mail-from", …
	Session Session
	Forward lka.FCrDNS // of the client's reverse name
	Sender  envelope.Address
	Rcpt    envelope.Address
	Message envelope.MessageID // 0 before there is one

	// For programs: of "auth" what follows the verb, and what has happened
	// since they were told last.
	Argument string
	Events   []filter.Event
}

func (p *Phase) append(b []byte) []byte {
	b = imsg.AppendUint32(b, uint32(p.Filter))
	b = imsg.AppendString(b, p.Name)
	b = p.Session.append(b)
	b = append(b, byte(p.Forward))
	b = imsg.AppendUint32(appendAddress(appendAddress(b, p.Sender), p.Rcpt), uint32(p.Message))
	return appendEvents(imsg.AppendString(b, p.Argument), p.Events)
}

func (p *Phase) parse(b []byte) error {
	r := imsg.NewReader(b)
	p.Filter = compile.FilterID(r.Uint32())
	p.Name = r.String()
	p.Session.read(r)
	p.Forward = lka.FCrDNS(r.Byte())
	p.Sender = readAddress(r)
	p.Rcpt = readAddress(r)
	p.Message = envelope.MessageID(r.Uint32())
	p.Argument = r.String()
	p.Events = readEvents(r)
	return r.Close()
}

// A PhaseVerdict is what the filters say.
type PhaseVerdict struct {
	Do      compile.Verdict // Reject, Disconnect, Rewrite or Junk; 0: go on
	Text    string          // the reply, or the new parameter for Rewrite
	Reports []string        // for programs that listen, in order

	// Of the phase "commit": the client is told that the message was taken,
	// and it is not; or its envelope changes.
	Discard bool
	Changes Changes
}

// Changes are what filters want of the envelope of a message.
type Changes struct {
	From       string   // another sender, in brackets; "" if it stays
	Add, Del   []string // recipients, in brackets
	Quarantine string   // why the message is to be held; "" if it is not
}

// None reports whether nothing is to be changed.
func (c *Changes) None() bool {
	return c.From == "" && len(c.Add) == 0 && len(c.Del) == 0 && c.Quarantine == ""
}

// merge adds what a later filter wants.
func (c *Changes) merge(d *Changes) {
	c.From = cmp.Or(d.From, c.From)
	c.Add, c.Del = append(c.Add, d.Add...), append(c.Del, d.Del...)
	c.Quarantine = cmp.Or(c.Quarantine, d.Quarantine)
}

func (v *PhaseVerdict) append(b []byte) []byte {
	b = imsg.AppendString(append(b, byte(v.Do)), v.Text)
	b = imsg.AppendBool(imsg.AppendStrings(b, v.Reports), v.Discard)
	c := &v.Changes
	b = imsg.AppendStrings(imsg.AppendStrings(imsg.AppendString(b, c.From), c.Add), c.Del)
	return imsg.AppendString(b, c.Quarantine)
}

func (v *PhaseVerdict) parse(b []byte) error {
	r := imsg.NewReader(b)
	v.Do = compile.Verdict(r.Byte())
	if v.Do > compile.Bypass {
		r.Fail()
	}
	v.Text = r.String()
	v.Reports, v.Discard = r.Strings(), r.Bool()
	v.Changes = Changes{From: r.String(), Add: r.Strings(), Del: r.Strings(), Quarantine: r.String()}
	return r.Close()
}
