package smtp

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"smtpd/runtime/envelope"
	"smtpd/runtime/mfa"
	"smtpd/runtime/rfc5321"
)

// settle asks the filters for their last word on a message that has been read
// to its end, and answers for it.
func (s *session) settle(size int64) {
	v, ok := s.filter(phaseCommit, mfa.Phase{Session: s.describe(), Sender: s.tx.sender})
	if !ok {
		messageFiltered.Inc()
		s.rollback()
		return
	}
	discard := v.Discard
	if !discard && !v.Changes.None() {
		refusal, err := s.amend(&v.Changes)
		switch {
		case errors.Is(err, errNobodyLeft):
			discard = true
		case err != nil:
			s.warn("smtp: change envelope", err)
			s.rollback()
			s.refuse(replyTemporary)
			return
		case refusal != "":
			messageFiltered.Inc()
			s.rollback()
			s.refuse(coded(refusal))
			return
		}
	}
	if discard {
		s.discard(size)
		return
	}
	s.commit(size)
}

// discard acknowledges a message that filters want nobody to get.
func (s *session) discard(size int64) {
	id := s.tx.id
	messageFiltered.Inc()
	s.log("smtp message-discarded", slog.String("msgid", id.String()), slog.Int64("size", size), slog.Int("nrcpt", len(s.tx.accepted)))
	s.rollback()
	s.acknowledge(id)
}

// errNobodyLeft is returned by amend when filters have removed every recipient.
var errNobodyLeft = errors.New("no recipient is left")

// amend changes the envelope of the message as filters want it. The rules judge
// the new one as if the client had sent it; what they refuse is refused whole.
func (s *session) amend(c *mfa.Changes) (refusal string, err error) {
	from := s.tx.sender
	if c.From != "" {
		if from, err = s.pathOf(c.From); err != nil {
			return "", err
		}
	}
	list, err := s.amended(c)
	switch {
	case err != nil:
		return "", err
	case len(list) == 0:
		return "", errNobodyLeft
	}
	s.tx.accepted, s.tx.sender = s.tx.accepted[:0], from
	for i := range list {
		r := &list[i]
		r.Sender, r.Anew, r.Hold = from, i == 0, c.Quarantine
		refusal, ids, err := s.srv.mfa.Rcpt(s.ctx, *r)
		if refusal != "" {
			return fmt.Sprintf("%s: <%s>", coded(refusal), r.Rcpt), nil
		}
		if err != nil {
			return "", err
		}
		s.tx.accepted = append(s.tx.accepted, s.acceptance(*r, ids))
	}
	return "", nil
}

// amended returns the recipients that filters want the message to have.
func (s *session) amended(c *mfa.Changes) ([]mfa.Rcpt, error) {
	var list []mfa.Rcpt
	for _, a := range s.tx.accepted {
		if a.asked == nil {
			return nil, errors.New("what was asked for the recipients is not known")
		}
		list = append(list, *a.asked)
	}
	has := func(to envelope.Address) int {
		return slices.IndexFunc(list, func(r mfa.Rcpt) bool {
			return r.Rcpt.User == to.User && strings.EqualFold(r.Rcpt.Domain, to.Domain)
		})
	}
	for _, path := range c.Del {
		to, err := s.pathOf(path)
		if err != nil {
			return nil, err
		}
		if i := has(to); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
	}
	for _, path := range c.Add {
		to, err := s.pathOf(path)
		if err != nil {
			return nil, err
		}
		if has(to) < 0 {
			list = append(list, mfa.Rcpt{
				Message: s.tx.id, Session: s.describe(), Rcpt: to, Flags: s.tx.flags, Ret: s.tx.ret, EnvID: s.tx.envID,
			})
		}
	}
	return list, nil
}

// pathOf reads an address as filters give it, with or without brackets.
func (s *session) pathOf(text string) (envelope.Address, error) {
	if !strings.HasPrefix(text, "<") {
		text = "<" + text + ">"
	}
	p, rest, err := rfc5321.ParsePath(text, s.name)
	if err != nil || rest != "" {
		return envelope.Address{}, fmt.Errorf("a filter gives the address %q, which is none", text)
	}
	return envelope.Address(p), nil
}

// acceptance notes a recipient that mfa has taken.
func (s *session) acceptance(r mfa.Rcpt, ids []envelope.ID) acceptance {
	a := acceptance{rcpt: r.Rcpt}
	if s.audience != nil {
		a.asked = new(mfa.Rcpt)
		*a.asked = r
	}
	if len(ids) > 0 {
		a.id = ids[len(ids)-1]
	}
	return a
}
