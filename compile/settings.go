package compile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// setting compiles the statements that set what holds for the whole server.
func (c *compiler) setting(s *ast.Stmt) {
	switch {
	case s.ADMD != nil:
		c.admd(s.ADMD)
	case s.Bounce != nil:
		c.bounce(s.Bounce)
	case s.MDA != nil:
		c.mda(s.MDA)
	case s.MTA != nil:
		c.mta(s.MTA)
	case s.Queue != nil:
		c.queue(s.Queue)
	case s.Scheduler != nil && s.Scheduler.Limit != nil:
		c.limits(s.Scheduler.Limit, "scheduler", schedulerLimits(&c.rs.Scheduler))
	case s.SMTP != nil:
		c.smtp(s.SMTP)
	case s.SRS != nil:
		c.srs(s.SRS)
	}
}

func (c *compiler) admd(a *ast.ADMD) {
	for i := range len(a.Name.Text) {
		if !isPrint(a.Name.Text[i]) {
			c.errorf(span(&a.Name), a.Name.Pos, "bad-admd", "%q is no administrative domain: it may hold printable ASCII only", a.Name.Text)
			return
		}
	}
	c.rs.ADMD = a.Name.Text
}

// delay returns the value of a delay, and reports one that is none.
func (c *compiler) delay(s *ast.Str, what string) (time.Duration, bool) {
	d, ok := parseDelay(s.Text)
	if !ok {
		e := c.errorf(span(s), s.Pos, "bad-delay", "%s: %q is no time span", what, s.Text)
		e.Label = "expected a number from 1 and one unit: s, m, h or d"
	}
	return d, ok
}

// maxBounce is how many delays of a warning are kept.
const maxBounce = 4

func (c *compiler) bounce(b *ast.Bounce) {
	var delays []time.Duration
	for i, s := range b.Delays {
		d, ok := c.delay(s, "bounce warn-interval")
		if ok && i < maxBounce {
			delays = append(delays, d)
		}
	}
	if len(b.Delays) > maxBounce {
		c.diags.Reportf(diag.Warning, span(b.Delays[maxBounce]), "bounce-delays", "only the first %d delays count", maxBounce).Label = "from here on ignored"
	}
	c.rs.Bounce = delays
}

// A limit is the name of a limit and where its value goes.
type limit struct {
	name string
	at   *int
}

func smtpLimits(s *SMTP) []limit {
	return []limit{{"max-mails", &s.MaxMails}, {"max-rcpt", &s.MaxRcpt}}
}

// ownSMTPLimits are those that OpenSMTPD does not have.
func ownSMTPLimits(s *SMTP) []limit {
	return []limit{
		{"max-conn-per-source", &s.MaxConnPerSource}, {"max-errors", &s.MaxErrors}, {"max-commands", &s.MaxCommands},
		{"max-auth-failures", &s.MaxAuthFailures}, {"max-time-without-mail", &s.MaxWithoutMail},
		{"max-auth-failures-per-source", &s.MaxAuthFailuresPerSource}, {"max-sessions", &s.MaxSessions},
		{"max-idle-time", &s.MaxIdle}, {"min-rate", &s.MinRate}, {"greeting-delay", &s.GreetingDelay},
	}
}

func mdaLimits(m *MDALimits) []limit {
	return []limit{
		{"max-session", &m.MaxSession}, {"max-session-per-user", &m.MaxSessionPerUser},
		{"task-lowat", &m.TaskLowat}, {"task-hiwat", &m.TaskHiwat}, {"task-release", &m.TaskRelease},
	}
}

func schedulerLimits(s *SchedulerLimits) []limit {
	return []limit{
		{"max-inflight", &s.MaxInflight}, {"max-evp-batch-size", &s.MaxEvpBatchSize},
		{"max-msg-batch-size", &s.MaxMsgBatchSize}, {"max-schedule", &s.MaxSchedule},
	}
}

func mtaLimits(m *MTALimits) []limit {
	return []limit{
		{"max-conn-per-host", &m.MaxConnPerHost}, {"max-conn-per-route", &m.MaxConnPerRoute},
		{"max-conn-per-source", &m.MaxConnPerSource}, {"max-conn-per-connector", &m.MaxConnPerConnector},
		{"max-conn-per-relay", &m.MaxConnPerRelay}, {"max-conn-per-domain", &m.MaxConnPerDomain},
		{"conn-delay-host", &m.ConnDelayHost}, {"conn-delay-route", &m.ConnDelayRoute},
		{"conn-delay-source", &m.ConnDelaySource}, {"conn-delay-connector", &m.ConnDelayConnector},
		{"conn-delay-relay", &m.ConnDelayRelay}, {"conn-delay-domain", &m.ConnDelayDomain},
		{"reconn-delay-route", &m.ReconnDelayRoute}, {"session-mail-max", &m.SessionMailMax},
		{"session-transaction-delay", &m.SessionTransactionDelay}, {"session-keepalive", &m.SessionKeepalive},
		{"max-failures-per-session", &m.MaxFailuresPerSession}, {"task-hiwat", &m.TaskHiwat},
		{"task-lowat", &m.TaskLowat}, {"task-release", &m.TaskRelease},
	}
}

// LimitNames returns the names of the limits that a statement sets, which is
// named by its first word.
func LimitNames(statement string) []string {
	switch statement {
	case "mda":
		return limitNames(mdaLimits(new(MDALimits)))
	case "mta":
		return limitNames(mtaLimits(new(MTALimits)))
	case "scheduler":
		return limitNames(schedulerLimits(new(SchedulerLimits)))
	case "smtp":
		return limitNames(smtpLimits(new(SMTP)), ownSMTPLimits(new(SMTP)))
	}
	return nil
}

// Limits returns what the limits are that a statement sets, by name.
func (rs *Ruleset) Limits(statement string) map[string]int {
	values := make(map[string]int)
	for _, list := range [...]struct {
		statement string
		limits    []limit
	}{
		{"mda", mdaLimits(&rs.MDA)}, {"scheduler", schedulerLimits(&rs.Scheduler)},
		{"mta", mtaLimits(&rs.MTA.Limits)}, {"smtp", append(smtpLimits(&rs.SMTP), ownSMTPLimits(&rs.SMTP)...)},
	} {
		for _, l := range list.limits {
			if list.statement == statement {
				values[l.name] = *l.at
			}
		}
	}
	return values
}

func limitNames(lists ...[]limit) []string {
	var names []string
	for _, l := range slices.Concat(lists...) {
		names = append(names, l.name)
	}
	return names
}

// limits sets every limit of a list.
func (c *compiler) limits(l *ast.Limits, statement string, known []limit, own ...limit) {
	for _, one := range l.Limits {
		c.limit(one, statement, known, own...)
	}
}

func (c *compiler) limit(l *ast.Limit, statement string, known []limit, own ...limit) {
	if i := slices.IndexFunc(known, func(k limit) bool { return k.name == l.Name.Text }); i >= 0 {
		*known[i].at = parseInt(l.Value.Text)
		return
	}
	if i := slices.IndexFunc(own, func(k limit) bool { return k.name == l.Name.Text }); i >= 0 {
		c.ownLimit(l, statement, own[i].at)
		return
	}
	names := limitNames(known, own)
	d := c.errorf(span(&l.Name), l.Value.Pos, "unknown-limit", "%s has no limit called %q", statement, l.Name.Text)
	if near := nearest(l.Name.Text, slices.Values(names)); near != "" {
		d.Help = append(d.Help, fmt.Sprintf("did you mean %s?", near))
	} else {
		d.Help = append(d.Help, "its limits are "+strings.Join(names, ", "))
	}
}

// ownLimit sets a limit of ours. Unlike those of OpenSMTPD, which may be any
// number, it has to mean something.
func (c *compiler) ownLimit(l *ast.Limit, statement string, at *int) {
	c.extension(span(&l.Name), l.Value.Pos, statement+" limit "+l.Name.Text)
	n := parseInt(l.Value.Text)
	if n < 1 {
		c.errorf(token.Span{Start: l.Value.Pos, End: l.Value.EndPos}, l.Value.Pos, "bad-limit", "%s limit %s: %s is no limit", statement, l.Name.Text, l.Value.Text).Label = "expected a number from 1"
		return
	}
	*at = n
}

// extension notes a word of ours: seen is the token at which OpenSMTPD
// notices that it does not know it.
func (c *compiler) extension(at token.Span, seen token.Pos, words string) {
	d := c.diags.Reportf(diag.Portability, at, "extension", "`%s` is an addition of ours: OpenSMTPD refuses it", words)
	d.Seen = seenAt(at, seen)
}

func (c *compiler) mda(m *ast.MDA) {
	if m.Limit != nil {
		c.limits(m.Limit, "mda", mdaLimits(&c.rs.MDA))
	}
	if w := m.Wrapper; w != nil {
		if c.wrappers.taken(c, &w.Name, w.Command.Pos) == nil {
			c.wrappers.declare(&w.Name, len(c.rs.Wrappers), c.broken)
			c.rs.Wrappers = append(c.rs.Wrappers, Wrapper{Name: w.Name.Text, Command: w.Command.Text})
		}
	}
}

func (c *compiler) mta(m *ast.MTA) {
	if m.MaxDeferred != nil {
		c.rs.MTA.MaxDeferred = parseInt(m.MaxDeferred.Text)
	}
	if m.Limit == nil {
		return
	}
	into := c.mtaLimitsOf(m.Limit.Domain)
	known := mtaLimits(into)
	for _, l := range m.Limit.Limits {
		if l.Limit != nil {
			c.limit(l.Limit, "mta", known)
		} else {
			into.Family = l.Family
		}
	}
}

// mtaLimitsOf returns the limits for a domain, which begin as a copy of the
// general ones as they are when it is first named.
func (c *compiler) mtaLimitsOf(domain *ast.Str) *MTALimits {
	m := &c.rs.MTA
	if domain == nil {
		return &m.Limits
	}
	i, ok := c.domains[domain.Text]
	if !ok {
		i = len(m.Domains)
		c.domains[domain.Text] = i
		m.Domains = append(m.Domains, DomainLimits{domain.Text, m.Limits})
	}
	return &m.Domains[i].Limits
}

func (c *compiler) queue(q *ast.Queue) {
	switch {
	case q.Compression:
		c.rs.Queue.Compression = true
	case q.Encryption != nil:
		c.rs.Queue.Encryption = true
		if key := q.Encryption.Key; key != nil && !c.broken {
			c.queueKey = key
			c.rs.Queue.Key = key.Text
		}
	case q.TTL != nil:
		if d, ok := c.delay(q.TTL, "queue ttl"); ok {
			c.rs.Queue.TTL = d
		}
	}
}

// queueKeySize is the length of an AES-256 key.
const queueKeySize = 32

// KeyFromInput reports whether the key of the queue is to be read from
// standard input at start. OpenSMTPD's check takes the word itself for a
// key and refuses it.
func (q *Queue) KeyFromInput() bool {
	return q.Key == "-" || strings.EqualFold(q.Key, "stdin")
}

// checkQueueKey judges the key that won.
func (c *compiler) checkQueueKey() {
	if c.queueKey == nil || len(c.rs.Queue.Key) == queueKeySize || c.rs.Queue.KeyFromInput() {
		return
	}
	d := c.errorf(span(c.queueKey), c.queueKey.Pos, "queue-key", "the key of queue encryption has %d bytes, not %d", len(c.rs.Queue.Key), queueKeySize)
	d.Fatal = true
	d.Help = append(d.Help, "without a key in the file it is asked for at start")
}

func (c *compiler) smtp(s *ast.SMTP) {
	switch {
	case s.Limit != nil:
		c.limits(s.Limit, "smtp", smtpLimits(&c.rs.SMTP), ownSMTPLimits(&c.rs.SMTP)...)
	case s.Ciphers != nil:
		c.rs.SMTP.Ciphers = s.Ciphers.Text
	case s.MaxMessageSize != nil:
		c.messageSize(s.MaxMessageSize)
	case s.SubAddrDelim != nil:
		c.subAddrDelim(s.SubAddrDelim)
	case s.BareLF != nil && s.BareLF.From != nil: // it may be cut short
		c.extension(token.At(s.BareLF.Pos), s.BareLF.Pos, "smtp bare-lf-from")
		c.rs.SMTP.BareLFFrom = c.use(s.BareLF.From, forBareLF, false)
	}
}

func (c *compiler) messageSize(s *ast.Size) {
	if s.Num != nil {
		n, _ := strconv.ParseInt(s.Num.Text, 10, 64)
		if n < 0 {
			at := ast.Str{Pos: s.Num.Pos, EndPos: s.Num.EndPos}
			c.errorf(span(&at), at.Pos, "bad-size", "smtp max-message-size: %s is no size", s.Num.Text).Label = "less than nothing"
			return
		}
		c.rs.SMTP.MaxMessageSize = n
		return
	}
	n, ok := parseSize(s.Str.Text)
	if !ok {
		d := c.errorf(span(s.Str), s.Str.Pos, "bad-size", "smtp max-message-size: %q is no size", s.Str.Text)
		d.Label = "expected a number and at most one unit: B, K, M, G, T, P or E"
		return
	}
	c.rs.SMTP.MaxMessageSize = n
}

func (c *compiler) subAddrDelim(s *ast.Str) {
	if len(s.Text) != 1 {
		c.errorf(span(s), s.Pos, "bad-delimiter", "smtp sub-addr-delim: %q is not one character", s.Text)
		return
	}
	b := s.Text[0]
	if !isPrint(b) || b == ' ' || b == '@' {
		c.errorf(span(s), s.Pos, "bad-delimiter", "smtp sub-addr-delim: %q cannot separate a user from a tag", s.Text).Label =
			"expected a printable character other than a blank and @"
		return
	}
	c.rs.SMTP.SubAddrDelim = b
}

// day is the unit in which the lifetime of a rewritten sender is kept.
const day = 24 * time.Hour

func (c *compiler) srs(s *ast.SRS) {
	switch {
	case s.Key != nil:
		c.rs.SRS.Key = s.Key.Text
	case s.Backup != nil:
		c.rs.SRS.Backup = s.Backup.Text
	case s.TTL != nil:
		d, ok := c.delay(s.TTL, "srs ttl")
		if ok && d < day {
			c.errorf(span(s.TTL), s.TTL.Pos, "srs-ttl", "srs ttl is less than a day").Label = "it is kept in whole days"
		} else if ok {
			c.rs.SRS.TTL = d.Truncate(day)
		}
	}
}
