package compile

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Dump writes the Ruleset as text for people: what listens, every default
// filled in, the rules numbered as explain and the logs number them, each
// part with where it was written. The same Ruleset always gives the same
// text, and different ones give different texts but for the bytes of keys,
// of which only the length is shown.
func (rs *Ruleset) Dump(w io.Writer) error {
	d := dumper{rs: rs, Writer: bufio.NewWriter(w)}
	d.settings()
	for i := range rs.PKI {
		d.pki(&rs.PKI[i])
	}
	for i := range rs.CA {
		a := &rs.CA[i]
		d.line("ca", quoted(a.Name), "cert", quoted(a.Cert), a.Origin)
	}
	for i := range rs.Listeners {
		d.listener(i+1, &rs.Listeners[i])
	}
	s := &rs.Socket
	d.line("listen on socket hostname", quoted(s.Hostname), opt("tag", s.Tag), d.filterOpt(s.Filter),
		flag("mask-src", s.MaskSrc), flag("no-dsn", s.NoDSN), s.Origin)
	for _, m := range rs.Metrics {
		d.line("listen metrics on", m.Addr, "port", m.Port, m.Origin)
	}
	for i := range rs.Tables {
		d.table(&rs.Tables[i])
	}
	for _, m := range rs.Wrappers {
		d.line("mda wrapper", quoted(m.Name), quoted(m.Command))
	}
	for i := range rs.Procs {
		p := &rs.Procs[i]
		d.line("proc", quoted(p.Name), quoted(p.Command), opt("user", p.User), opt("group", p.Group), opt("chroot", p.Chroot), p.Origin)
	}
	for i := range rs.Filters {
		d.filter(&rs.Filters[i])
	}
	for i := range rs.Actions {
		d.action(&rs.Actions[i])
	}
	for i := range rs.Rules {
		d.rule(i+1, &rs.Rules[i])
	}
	return d.Flush()
}

// A dumper writes one Ruleset. The error of a write is kept by the buffer.
type dumper struct {
	rs *Ruleset
	*bufio.Writer
}

// line writes the words that are not empty, separated by blanks.
func (d *dumper) line(words ...any) {
	first := true
	for _, w := range words {
		var text string
		switch w := w.(type) {
		case Origin:
			if w.Line > 0 {
				text = fmt.Sprintf("# %s:%d:%d", w.File, w.Line, w.Column)
			}
		default:
			text = fmt.Sprint(w)
		}
		if text == "" {
			continue
		}
		if !first {
			d.WriteByte(' ')
		}
		first = false
		d.WriteString(text)
	}
	d.WriteByte('\n')
}

func quoted(s string) string { return strconv.Quote(s) }

// opt returns an option with its value, or nothing without one.
func opt(name, value string) string {
	if value == "" {
		return ""
	}
	return name + " " + quoted(value)
}

// flag returns the name of an option that is on.
func flag(name string, on bool) string {
	if !on {
		return ""
	}
	return name
}

// formatDelay returns a time span as the language writes it, in the largest
// unit that is exact.
func formatDelay(d time.Duration) string {
	for _, u := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d != 0 && d%u.size == 0 {
			return strconv.FormatInt(int64(d/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

// tableName returns the name of a table in angle brackets.
func (d *dumper) tableName(id TableID) string {
	name := d.rs.Table(id).Name
	if strings.HasPrefix(name, "<") {
		return name // built in or without a name
	}
	return "<" + name + ">"
}

func (d *dumper) tableOpt(name string, id TableID) string {
	if id == 0 {
		return ""
	}
	return name + " " + d.tableName(id)
}

func (d *dumper) filterOpt(id FilterID) string {
	if id == 0 {
		return ""
	}
	return opt("filter", d.rs.Filter(id).Name)
}

func (d *dumper) settings() {
	rs := d.rs
	d.line("server", quoted(rs.ServerName))
	d.line("admd", quoted(rs.ADMD))
	s := &rs.SMTP
	limits := smtpLimits(s)
	for _, l := range ownSMTPLimits(s) {
		if *l.at > 0 {
			limits = append(limits, l)
		}
	}
	d.line("smtp limit", limitText(limits))
	d.line("smtp max-message-size", s.MaxMessageSize)
	d.line("smtp sub-addr-delim", quoted(string(rune(s.SubAddrDelim))))
	if s.Ciphers != "" {
		d.line(opt("smtp ciphers", s.Ciphers))
	}
	if s.BareLFFrom != 0 {
		d.line("smtp", d.tableOpt("bare-lf-from", s.BareLFFrom))
	}
	q := &rs.Queue
	d.line("queue ttl", formatDelay(q.TTL), flag("compression", q.Compression), flag("encryption", q.Encryption), secret("key", q.Key))
	d.line("srs ttl", formatDelay(rs.SRS.TTL), secret("key", rs.SRS.Key), secret("backup", rs.SRS.Backup))
	delays := make([]string, len(rs.Bounce))
	for i, b := range rs.Bounce {
		delays[i] = formatDelay(b)
	}
	d.line("bounce warn-interval", strings.Join(delays, ", "))
	d.line("mda limit", limitText(mdaLimits(&rs.MDA)))
	d.line("scheduler limit", limitText(schedulerLimits(&rs.Scheduler)))
	d.line("mta max-deferred", rs.MTA.MaxDeferred)
	d.line("mta limit", limitText(mtaLimits(&rs.MTA.Limits)), rs.MTA.Limits.Family)
	for i := range rs.MTA.Domains {
		m := &rs.MTA.Domains[i]
		d.line("mta limit for domain", quoted(m.Domain), limitText(mtaLimits(&m.Limits)), m.Limits.Family)
	}
}

// secret says that there is a key without saying which: a dump ends up in
// tickets and logs.
func secret(name, key string) string {
	if key == "" {
		return ""
	}
	return fmt.Sprintf("%s (%d bytes)", name, len(key))
}

func limitText(limits []limit) string {
	words := make([]string, len(limits))
	for i, l := range limits {
		words[i] = l.name + " " + strconv.Itoa(*l.at)
	}
	return strings.Join(words, " ")
}

func (d *dumper) pki(p *PKI) {
	d.line("pki", quoted(p.Name), "cert", quoted(p.Cert), "key", quoted(p.Key), opt("dhe", p.DHE), p.Origin)
}

var tlsNames = [...]string{"", "tls", "tls-require", "smtps"}

var authNames = [...]string{"", "auth-optional", "auth"}

// String returns the keyword of m, "" for none.
func (m TLSMode) String() string { return tlsNames[m] }

// String returns the keyword of m, "" for none.
func (m AuthMode) String() string { return authNames[m] }

var signNames = [...]string{"absent", "is", "not"}

// String returns the word for s.
func (s Sign) String() string { return signNames[s] }

func (d *dumper) listener(n int, l *Listener) {
	addr := "(no address)"
	if l.Addr.IsValid() {
		addr = l.Addr.String()
	}
	words := []any{"listener", strconv.Itoa(n) + ":", addr, "port", l.Port, "interface", quoted(l.Interface),
		l.TLS, flag("verify", l.Verify)}
	for _, p := range l.PKI {
		words = append(words, opt("pki", p))
	}
	auth := l.Auth.String()
	if l.AuthTable != 0 {
		auth += " " + d.tableName(l.AuthTable)
	}
	words = append(words, opt("ca", l.CA), opt("ciphers", l.Ciphers), opt("protocols", l.Protocols), auth,
		"hostname", quoted(l.Hostname), d.tableOpt("hostnames", l.Hostnames), d.tableOpt("senders", l.Senders),
		flag("masquerade", l.Masquerade), opt("tag", l.Tag), d.filterOpt(l.Filter), flag("mask-src", l.MaskSrc),
		flag("no-dsn", l.NoDSN), flag("received-auth", l.ReceivedAuth), flag("proxy-v2", l.ProxyV2),
		d.tableOpt("only-from", l.ProxyFrom), l.Origin)
	d.line(words...)
}

var kindNames = [...]string{"", "list", "mapping", "dynamic", "empty"}

// String returns the word for k.
func (k Kind) String() string { return kindNames[k] }

func (d *dumper) table(t *Table) {
	name := t.Name
	if !strings.HasPrefix(name, "<") {
		name = "<" + name + ">"
	}
	d.line("table", name, t.Kind, t.Backend, opt("path", t.Path), t.Origin)
	for _, e := range t.Entries {
		d.WriteByte('\t')
		d.WriteString(quoted(e.Key))
		if t.Kind == Mapping {
			d.WriteString(" = ")
			d.WriteString(quoted(e.Value))
		}
		d.WriteByte('\n')
	}
}

var fieldNames = [...]string{"", "fcrdns", "rdns", "src", "helo", "auth", "mail-from", "rcpt-to"}

var verdictNames = [...]string{"", "reject", "disconnect", "rewrite", "report", "junk", "bypass"}

// String returns the keyword of f.
func (f FilterField) String() string { return fieldNames[f] }

// String returns the keyword of v.
func (v Verdict) String() string { return verdictNames[v] }

func (d *dumper) filter(f *Filter) {
	switch {
	case f.Phase != "":
		verdict := f.Do.String()
		if f.Do != Junk && f.Do != Bypass {
			verdict += " " + quoted(f.Text)
		}
		d.line("filter", quoted(f.Name), "phase", f.Phase, "match", d.criterion(f.Test.Field.String(), f.Test.Criterion), verdict, f.Origin)
	case f.Proc != "":
		d.line("filter", quoted(f.Name), opt("proc", f.Proc), onFailure(f), f.Origin)
	case f.Milter != "":
		d.line("filter", quoted(f.Name), opt("milter", string(f.Milter)), onFailure(f), f.Origin)
	default:
		names := make([]string, len(f.Chain))
		for i, m := range f.Chain {
			names[i] = quoted(d.rs.Filter(m).Name)
		}
		d.line("filter", quoted(f.Name), "chain {", strings.Join(names, ", "), "}", f.Origin)
	}
}

func onFailure(f *Filter) string {
	if f.Bypass {
		return "on-failure bypass"
	}
	return ""
}

// criterion returns a criterion as the language writes it.
func (d *dumper) criterion(name string, c Criterion) string {
	if c.Sign == Absent {
		return ""
	}
	text := name
	if c.Sign == Not {
		text = "! " + name
	}
	if c.Regex {
		text += " regex"
	}
	if c.Table != 0 {
		text += " " + d.tableName(c.Table)
	}
	return text
}

func (d *dumper) action(a *Action) {
	words := []any{"action", quoted(a.Name) + ":", a.Method}
	if a.Method == Relay {
		words = append(words, d.relay(&a.Relay)...)
	} else {
		if a.Argument != "" {
			words = append(words, quoted(a.Argument))
		}
		words = append(words, flag("junk", a.Junk), flag("rcpt-to", a.RcptTo), opt("user", a.User),
			d.tableOpt("alias", a.Alias), d.tableOpt("virtual", a.Virtual), d.tableOpt("userbase", a.Userbase), opt("wrapper", a.Wrapper))
	}
	d.line(append(words, "ttl", formatDelay(a.TTL), a.Origin)...)
}

func (d *dumper) relay(r *RelayOptions) []any {
	backup := flag("backup", r.Backup)
	if r.BackupMX != "" {
		backup += " mx " + quoted(r.BackupMX)
	}
	return []any{
		d.tableOpt("host", r.Host), d.tableOpt("domain", r.Domain), backup, flag("tls", r.TLS), flag("no-verify", r.NoVerify),
		d.tableOpt("auth", r.Auth), opt("helo", r.Helo), d.tableOpt("helo-src", r.HeloSrc), d.tableOpt("src", r.Src),
		opt("mail-from", r.MailFrom), opt("pki", r.PKI), opt("ca", r.CA), opt("ciphers", r.Ciphers), opt("protocols", r.Protocols),
		d.filterOpt(r.Filter), flag("srs", r.SRS),
	}
}

var fromNames = [...]string{"", "from local", "from any", "from socket", "from src", "from rdns"}

var forNames = [...]string{"", "for local", "for any", "for domain"}

// String returns the keywords of k.
func (k FromKind) String() string { return fromNames[k] }

// String returns the keywords of k.
func (k ForKind) String() string { return forNames[k] }

func (d *dumper) rule(n int, r *Rule) {
	from, dest := r.From.Criterion, r.For.Criterion
	if r.From.Kind != FromSrc && r.From.Kind != FromRDNS {
		from.Table = 0 // the keyword says which
	}
	if r.For.Kind != ForDomain {
		dest.Table = 0
	}
	verdict := "reject"
	if r.Action != 0 {
		verdict = "action " + quoted(d.rs.Action(r.Action).Name)
	}
	d.line("rule", strconv.Itoa(n)+":", d.criterion("tag", r.Tag), d.criterion(r.From.Kind.String(), from), d.criterion(r.For.Kind.String(), dest),
		d.criterion("helo", r.Helo), d.criterion("auth", r.Auth), d.criterion("tls", r.TLS), d.criterion("mail-from", r.MailFrom),
		d.criterion("rcpt-to", r.RcptTo), verdict, r.Origin)
}
