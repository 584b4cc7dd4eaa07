package smtp

import (
	"errors"
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/compile/expand"
	"smtpd/runtime/envelope"
	"smtpd/runtime/mfa"
	"smtpd/runtime/rfc5321"
	"smtpd/runtime/rfc5322"
)

// helo answers HELO.
func (s *session) helo(arg string) {
	if s.identify(phaseHelo, arg, false) {
		s.reply("250 " + s.greeting())
	}
}

// ehlo answers EHLO with what the server offers, one line each, in the order
// of OpenSMTPD.
func (s *session) ehlo(arg string) {
	if !s.identify(phaseEhlo, arg, true) {
		return
	}
	s.reply("250-" + s.greeting())
	s.reply("250-8BITMIME")
	s.reply("250-ENHANCEDSTATUSCODES")
	s.reply("250-PIPELINING")
	s.reply(fmt.Sprintf("250-SIZE %d", s.srv.rules.SMTP.MaxMessageSize))
	if !s.at.noDSN {
		s.reply("250-DSN")
	}
	if s.at.offersStartTLS() && s.tls == nil {
		s.reply("250-STARTTLS")
	}
	if s.offersAuth() && !s.authed {
		s.reply("250-AUTH PLAIN LOGIN")
	}
	for _, line := range s.ownExtensions() {
		s.reply("250-" + line)
	}
	s.reply("250 HELP")
}

// ownExtensions returns the lines that OpenSMTPD does not have.
func (s *session) ownExtensions() []string {
	lines := []string{"CHUNKING", "SMTPUTF8"}
	if s.tls != nil {
		lines = append(lines, "REQUIRETLS")
	}
	l := &s.srv.rules.SMTP
	limits := "LIMITS"
	for _, v := range [...]struct {
		name  string
		value int
	}{{"MAILMAX", l.MaxMails}, {"RCPTMAX", l.MaxRcpt}} {
		if v.value > 0 && v.value <= maxDeclaredLimit {
			limits += fmt.Sprintf(" %s=%d", v.name, v.value)
		}
	}
	if limits != "LIMITS" {
		lines = append(lines, limits)
	}
	return lines
}

const maxDeclaredLimit = 999999 // RFC 9422, section 3: six digits

func (s *session) greeting() string {
	return s.name + " Hello " + s.client + " " + rfc5322.Bracket(s.addr) + ", pleased to meet you"
}

// identify takes the name that the client gives itself. A second one begins
// anew, as RFC 5321, section 4.1.4 has it.
func (s *session) identify(at phase, name string, esmtp bool) bool {
	name = strings.TrimRight(name, " ")
	if !s.validName(at, name) {
		return false
	}
	p := mfa.Phase{Session: s.describe()}
	p.Session.Helo = name
	v, ok := s.filter(at, p)
	if !ok {
		return false
	}
	if v.Do == compile.Rewrite {
		if name = v.Text; !s.validName(at, name) {
			return false
		}
	}
	s.rollback()
	s.client, s.esmtp, s.state = name, esmtp, greeted
	s.happened("link-identify", strings.ToUpper(string(at)), name)
	return true
}

// validName refuses a name that cannot be one.
func (s *session) validName(at phase, name string) bool {
	switch {
	case name == "":
		s.fail(replyNeedsDomain, strings.ToUpper(string(at)))
		return false
	case !rfc5321.ValidDomain(name):
		s.fail(replyBadDomain)
		return false
	}
	return true
}

// mail begins a transaction. The queue hears of it at the first RCPT.
func (s *session) mail(arg string) {
	path, ok := cutPrefixFold(arg, "FROM:")
	switch {
	case !ok:
		s.fail(replyUnrecognized)
		return
	case s.at.tls == compile.RequireTLS && s.tls == nil:
		s.fail(replyNeedsTLS)
		return
	case s.at.auth == compile.RequireAuth && !s.authed:
		s.fail(replyNeedsAuth)
		return
	case s.mails >= s.srv.rules.SMTP.MaxMails:
		s.reached(limitMails)
		s.refuse(replyTooManyMails)
		return
	case s.srv.full.Load():
		s.refuse(replyFull)
		return
	}
	if !s.parseMail(path, 0) || !s.filterMail() || !s.maySend() || s.transactionHeard() && !s.createMessage() {
		s.forget()
		return
	}
	s.state = sender
	s.replied("tx-mail", replyOK, s.tx.sender)
	s.reverse.wait(lookupPatience) // what rules ask of the client is now settled
	s.reply(replyOK)
}

// parseMail reads the argument of MAIL into s.tx, or refuses it. Flags are set
// already.
func (s *session) parseMail(path string, flags envelope.Flags) bool {
	from, rest, err := rfc5321.ParsePath(path, s.name)
	if err != nil {
		s.fail(replySenderSyntax)
		return false
	}
	s.tx = message{sender: envelope.Address(from), flags: flags, accepted: s.tx.accepted[:0]}
	if refusal := s.mailParams(&s.tx, rest); refusal != "" {
		s.fail("%s", refusal)
		return false
	}
	return s.mayWrite(path, rest)
}

// mayWrite refuses a path that is not ASCII in a transaction which is. Rest is
// what follows the path (RFC 6531, section 3.5).
func (s *session) mayWrite(path, rest string) bool {
	if s.tx.flags&envelope.SMTPUTF8 == 0 && !rfc5321.IsASCII(strings.TrimSuffix(path, rest)) {
		s.fail(replyNeedsUTF8)
		return false
	}
	return true
}

// filterMail asks the filters about s.tx and takes the sender that they put
// in its place. What the client demanded of later hops holds for that one too.
func (s *session) filterMail() bool {
	path, rewritten, ok := s.filterAddress(phaseMailFrom, s.tx.sender, envelope.Address{})
	return ok && (!rewritten || s.parseMail(path, s.tx.flags))
}

// mailParams reads the parameters of MAIL into tx.
func (s *session) mailParams(tx *message, text string) (refusal string) {
	params, err := rfc5321.ParseParams(text)
	if err != nil {
		return replyBadParameters
	}
	for _, p := range params {
		switch {
		case p.Name == "SIZE":
			refusal = s.declaredSize(p)
		case p.Name == "BODY" && (strings.EqualFold(p.Value, "7BIT") || strings.EqualFold(p.Value, "8BITMIME")):
		case p.Name == "SMTPUTF8" && !p.HasValue && s.esmtp:
			tx.flags |= envelope.SMTPUTF8
		case p.Name == "REQUIRETLS" && !p.HasValue && s.tls != nil:
			tx.flags |= envelope.RequireTLS
		case p.Name == "AUTH" && (p.Value == "<>" || rfc5321.ValidXtext(p.Value)):
		case p.Name == "RET" && !s.at.noDSN:
			if tx.ret = strings.ToUpper(p.Value); tx.ret != "FULL" && tx.ret != "HDRS" {
				refusal = fmt.Sprintf(replyBadOption, p.Name)
			}
		case p.Name == "ENVID" && !s.at.noDSN:
			refusal = envelopeID(tx, p.Value)
		default:
			refusal = fmt.Sprintf(replyMailOption, p.String())
		}
		if refusal != "" {
			return refusal
		}
	}
	return ""
}

// declaredSize refuses a message before it is sent (RFC 1870, section 6.1).
func (s *session) declaredSize(p rfc5321.Param) (refusal string) {
	n, err := rfc5321.ParseSize(p.Value)
	switch {
	case err != nil:
		return fmt.Sprintf(replyBadOption, p.Name)
	case n > s.srv.rules.SMTP.MaxMessageSize:
		s.reached(limitSize)
		return replyDeclaredSize
	}
	return ""
}

const (
	maxEnvID = 100 // RFC 3461, section 4.4
	maxORcpt = 500 // RFC 3461, section 4.2
)

func envelopeID(tx *message, value string) (refusal string) {
	switch {
	case len(value) > maxEnvID:
		return fmt.Sprintf(replyOptionTooLarge, "ENVID="+value)
	case !rfc5321.ValidXtext(value) || value == "":
		return fmt.Sprintf(replyBadOption, "ENVID")
	}
	tx.envID = value
	return ""
}

// rcpt asks mfa for a recipient.
func (s *session) rcpt(arg string) {
	path, ok := cutPrefixFold(arg, "TO:")
	switch {
	case !ok:
		s.fail(replyUnrecognized)
		return
	case len(s.tx.accepted) >= s.srv.rules.SMTP.MaxRcpt:
		s.reached(limitRcpts)
		s.refuse(replyTooManyRcpts)
		return
	}
	r, ok := s.parseRcpt(path)
	if !ok {
		return
	}
	path, rewritten, ok := s.filterAddress(phaseRcptTo, s.tx.sender, r.Rcpt)
	if ok && rewritten {
		r, ok = s.parseRcpt(path)
	}
	if !ok {
		s.replied("tx-rcpt", "5", r.Rcpt)
		return
	}
	if !s.createMessage() {
		return
	}
	r.Message, r.Session = s.tx.id, s.describe()
	s.resolve(r)
}

// parseRcpt reads the argument of RCPT, or refuses it.
func (s *session) parseRcpt(path string) (r mfa.Rcpt, ok bool) {
	to, rest, err := rfc5321.ParsePath(path, s.name)
	if err != nil || to.IsNull() {
		s.fail(replyRcptSyntax)
		return r, false
	}
	r = mfa.Rcpt{Sender: s.tx.sender, Rcpt: envelope.Address(to), Flags: s.tx.flags, Ret: s.tx.ret, EnvID: s.tx.envID}
	if refusal := s.rcptParams(&r, rest); refusal != "" {
		s.fail("%s", refusal)
		return r, false
	}
	return r, s.mayWrite(path, rest)
}

// rcptParams reads the parameters of one RCPT; nothing of them stays for the
// next.
func (s *session) rcptParams(r *mfa.Rcpt, text string) (refusal string) {
	params, err := rfc5321.ParseParams(text)
	if err != nil {
		return replyBadParameters
	}
	for _, p := range params {
		switch {
		case p.Name == "NOTIFY" && !s.at.noDSN:
			n, err := rfc5321.ParseNotify(p.Value)
			r.Notify = reports(n)
			if errors.Is(err, rfc5321.ErrNotify) {
				return replyNotify
			} else if err != nil {
				return fmt.Sprintf(replyBadOption, p.Name)
			}
		case p.Name == "ORCPT" && !s.at.noDSN:
			if r.ORcpt, err = rfc5321.ParseORcpt(p.Value); err != nil || len(r.ORcpt) > maxORcpt ||
				!rfc5321.IsASCII(p.Value) && s.tx.flags&envelope.SMTPUTF8 == 0 {
				return replyORcpt
			}
		default:
			return fmt.Sprintf(replyRcptOption, p.String())
		}
	}
	return ""
}

// reports returns n as envelopes hold it.
func reports(n rfc5321.Notify) (set envelope.Notify) {
	for bit, is := range map[envelope.Notify]bool{
		envelope.NotifySuccess: n.Success,
		envelope.NotifyFailure: n.Failure,
		envelope.NotifyDelay:   n.Delay,
		envelope.NotifyNever:   n.Never,
	} {
		if is {
			set |= bit
		}
	}
	return set
}

// createMessage makes sure that the transaction has a message in the queue.
func (s *session) createMessage() bool {
	if s.tx.id != 0 {
		return true
	}
	id, content, err := s.srv.queue.Create(s.ctx)
	switch {
	case isFull(err): // just now
		s.refuse(replyFull)
		return false
	case err != nil:
		s.warn("smtp: create message", err)
		s.end(replyTemporary)
		return false
	}
	s.tx.id, s.tx.content = id, content
	s.happened("tx-begin", id.String())
	return true
}

// isFull reports whether the queue refuses for want of room on its disk.
func isFull(err error) bool { return err != nil && strings.HasPrefix(err.Error(), replyFull[:3]) }

// resolve asks mfa what becomes of a recipient and passes its answer on.
func (s *session) resolve(r mfa.Rcpt) {
	refusal, ids, err := s.srv.mfa.Rcpt(s.ctx, r)
	switch {
	case err != nil:
		s.warn("smtp: resolve recipient", err)
		refusal = replyUnresolved
	case refusal == "":
		s.tx.accepted = append(s.tx.accepted, s.acceptance(r, ids))
		s.state = recipient
		for _, id := range ids {
			s.happened("tx-envelope", s.tx.id.String(), id.String())
		}
		recipients.WithLabelValues("accepted").Inc()
		s.replied("tx-rcpt", replyRecipient, r.Rcpt)
		s.reply(replyRecipient)
		return
	}
	recipients.WithLabelValues(outcome(refusal)).Inc()
	s.replied("tx-rcpt", refusal, r.Rcpt)
	refusal = coded(refusal) + ": <" + r.Rcpt.String() + ">"
	if strings.HasPrefix(refusal, "421") {
		s.end(refusal)
		return
	}
	s.refuse(refusal)
}

// coded returns a refusal of mfa with the enhanced code that it lacks.
func coded(refusal string) string {
	switch refusal {
	case expand.ReplyInvalid:
		return replyInvalid
	case expand.ReplyTemporary:
		return replyUnresolved
	}
	return refusal
}

func (s *session) rset(string) {
	if s.filterSimple(phaseRset) {
		s.rollback()
		s.reply(replyReset)
	}
}

func (s *session) noop(string) {
	if s.filterSimple(phaseNoop) {
		s.reply(replyOK)
	}
}

// vrfy neither confirms nor denies: who asks collects addresses. To know the
// command is demanded all the same (RFC 5321, section 4.5.1 and 7.3).
func (s *session) vrfy(arg string) {
	if strings.Trim(arg, " ") == "" {
		s.fail(replyNoMechanism)
		return
	}
	s.reply(replyVerify)
}

func (s *session) help(string) {
	for _, line := range replyHelp {
		s.reply(line)
	}
}

func (s *session) quit(string) {
	if !s.filterSimple(phaseQuit) {
		return
	}
	s.reply(replyBye)
	s.reason = "quit"
	s.state = closing
}

func (s *session) wiz(string) { s.fail(replyWizard) }

// cutPrefixFold cuts an ASCII prefix in any case, and the spaces behind it.
func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return strings.TrimLeft(s[len(prefix):], " "), true
}
