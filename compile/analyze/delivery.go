package analyze

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
)

// An Expanded is what a recipient comes to.
type Expanded struct {
	Root       *expand.Node
	Deliveries []expand.Delivery // if Err is nil
	// Err is an *expand.Refusal, or wraps expand.ErrUnknown if what was
	// brought along is not enough to know.
	Err     error
	Assumed []expand.Assumption
}

// Open reports whether it is not known what becomes of the recipient.
func (x *Expanded) Open() bool { return errors.Is(x.Err, expand.ErrUnknown) }

// Reply returns what the client is told if the recipient is refused, else "".
func (x *Expanded) Reply() string {
	if r := (*expand.Refusal)(nil); !x.Open() && errors.As(x.Err, &r) {
		return r.Reply
	}
	return ""
}

// Expand follows the recipient of w's transaction to its deliveries. The
// decisions are those of w.Decider.
func Expand(ctx context.Context, w *expand.AtHand, now time.Time) *Expanded {
	e := &expand.Expansion{World: w, Rules: w.Rules, CommandUser: "_smtpd", Warn: func(string, ...any) {}, Keep: true}
	if srs := expand.NewSRSDecoder(w.Rules.SRS); srs != nil && w.Transaction.Sender == (engine.Address{}) {
		e.SRS = func(a engine.Address) (engine.Address, error) { return srs.Decode(a, now) }
	}
	x := &Expanded{}
	x.Deliveries, x.Err = e.Run(ctx, w.Transaction.Rcpt)
	x.Root, x.Assumed = e.Root, w.Assumed
	return x
}

// A Way is how a delivery is made: by which method, to what, as whom.
type Way struct {
	Method string // that of the action, or "command" or "file"
	Target string // the maildir, the LMTP server, the command or the file
	User   string // whose mail it is
	Sub    string // sub-address
	As     string // the user that the delivery runs as

	// Of relay: the hosts to go to, as the table names them, in the order
	// in which they take turns.
	Hosts []string
	MX    string // the domain whose MX hosts are asked for, if Hosts is empty
	Below string // only those that are better than this one (backup)
	Open  string // why the next hop is not known
}

// WayOf returns the way of a delivery.
func WayOf(rs *compile.Ruleset, d *expand.Delivery) Way {
	a := rs.Action(d.Action)
	w := Way{Method: a.Method.String(), Target: a.Argument, User: d.User, Sub: d.Sub, As: cmp.Or(a.User, d.User)}
	switch {
	case d.Execute == expand.ByCommand:
		w.Method, w.Target, w.As = "command", d.Exec, d.User
	case d.Execute == expand.ByFile:
		w.Method, w.Target, w.As = "file", d.Exec, d.User
	case a.Method == compile.Maildir:
		w.Target = cmp.Or(a.Argument, "~/Maildir")
	case a.Method == compile.Relay:
		w.As = ""
		w.hop(rs, &a.Relay, strings.ToLower(d.Dest.Domain))
	}
	return w
}

// hop says where relayed mail goes next.
func (w *Way) hop(rs *compile.Ruleset, o *compile.RelayOptions, domain string) {
	switch {
	case o.Host != 0:
		t := rs.Table(o.Host)
		for _, e := range t.Entries {
			w.Hosts = append(w.Hosts, e.Key)
		}
		if len(w.Hosts) == 0 {
			w.Open = "table " + t.Name + " names the host"
		}
	case o.Domain != 0:
		t := rs.Table(o.Domain)
		url, ok, _ := engine.NewStatic(t, rs.SMTP.SubAddrDelim).Lookup(engine.RelayHost, domain)
		switch {
		case t.Kind == compile.Dynamic:
			w.Open = "table " + t.Name + " would be asked for the host of " + domain
		case !ok:
			w.Open = "table " + t.Name + " has no host for " + domain + ": the mail waits in the queue"
		default:
			w.Hosts = []string{url}
		}
	default:
		w.MX = domain
		if o.Backup {
			w.Below = cmp.Or(o.BackupMX, rs.ServerName)
		}
	}
}

// String says the way in words.
func (w *Way) String() string {
	var b strings.Builder
	b.WriteString(w.Method)
	if w.Method == "relay" {
		switch {
		case w.Open != "":
			b.WriteString(", " + w.Open)
		case len(w.Hosts) > 0:
			b.WriteString(" by way of " + strings.Join(w.Hosts, ", then "))
		default:
			b.WriteString(" to the MX hosts of " + w.MX)
		}
		if w.Below != "" {
			b.WriteString(" that are better than " + w.Below)
		}
		return b.String()
	}
	if w.Target != "" {
		b.WriteString(" " + w.Target)
	}
	if w.Method == "command" || w.Method == "file" {
		return b.String() + ", as " + w.As
	}
	b.WriteString(", mail of " + w.User)
	if w.Sub != "" {
		b.WriteString(" with sub-address " + w.Sub)
	}
	if w.As != w.User {
		b.WriteString(", as " + w.As)
	}
	return b.String()
}
