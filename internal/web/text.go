package web

import (
	"fmt"
	"html/template"
	"path"
	"strconv"
	"strings"
	"time"

	"smtpd/compile/engine"
	"smtpd/internal/where"
	"smtpd/lang/diag"
	"smtpd/runtime/control"
	"smtpd/runtime/mfa"
	"smtpd/runtime/queue"
)

// functions are what templates can say. Text from elsewhere goes through text:
// escaping keeps it from being markup, this from turning the line around.
var functions = template.FuncMap{
	"text": func(s string) string { return diag.Printable(shorten(s)) },
	"num":  number, "many": many, "ago": func(now, t time.Time) string { return span(now.Sub(t)) },
	"span": span, "took": took, "stamp": stamp, "clock": func(t time.Time) string { return t.Local().Format("15:04") },
	"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"state":   where.State, "waits": waits, "query": func(c crowd) string { return query(c.route) }, "share": share, "outcome": outcome, "ages": func() any { return ages },
	"soon": func() time.Duration { return soon }, "systems": systemsOf, "actions": actionsOf, "fields": fieldsOf,
}

// parsePages returns a template for each page.
func parsePages() map[string]*template.Template {
	layout := template.Must(template.New("").Funcs(functions).ParseFS(assets, "assets/layout.html"))
	names, err := assets.ReadDir("assets")
	if err != nil {
		panic(err) // they are in this program
	}
	pages := make(map[string]*template.Template)
	for _, f := range names {
		if name, ok := strings.CutSuffix(f.Name(), ".html"); ok && name != "layout" {
			pages[name] = template.Must(template.Must(layout.Clone()).ParseFS(assets, path.Join("assets", f.Name())))
		}
	}
	return pages
}

// shorten keeps of a text what a page has room for.
func shorten(s string) string {
	const limit = 400
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// many writes how many there are of something.
func many(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return number(n) + " " + what
}

// number writes thousands apart.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	d = d.Abs().Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	case d < 100*24*time.Hour:
		return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
	return fmt.Sprintf("%d d", d/(24*time.Hour))
}

// took writes how long something takes that takes a moment.
func took(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d/time.Microsecond)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05 -0700")
}

// waits says what an envelope waits for.
func waits(l queue.Listed, now time.Time) string {
	switch next := l.Envelope.NextTry; {
	case l.Error != "":
		return "It cannot be read: " + diag.Printable(shorten(l.Error))
	case l.Why != "":
		return diag.Printable(shorten(l.Why))
	case l.InFlight:
		return "it is being delivered"
	case next.After(now):
		return "its next try is in " + span(next.Sub(now))
	}
	return "it is due"
}

// share returns n as a hundredth of all.
func share(n, all uint64) string {
	if all == 0 {
		return "0"
	}
	return strconv.FormatFloat(100*float64(n)/float64(all), 'f', 1, 64)
}

// outcome says what a decision came to, and how that looks.
func outcome(d mfa.Decided) fact {
	return map[engine.Outcome]fact{
		engine.Accept: {"", "accepted"}, engine.Reject: {"bad", "refused"},
		engine.NoRule: {"bad", "no rule"}, engine.TempFail: {"warn", "put off"},
	}[d.Outcome]
}

// A systemState is what the overview shows of a system.
type systemState struct {
	Name, Label, Forms string
	Paused             bool
}

func systemsOf(s *control.Status, forms string) []systemState {
	return []systemState{
		{"smtp", "taking mail (smtp)", forms, s.SMTP}, {"mda", "local delivery (mda)", forms, s.MDA}, {"mta", "sending on (mta)", forms, s.MTA},
	}
}

// actions are what the buttons below a message or an envelope carry; of a
// message the state is "".
type actions struct{ Forms, Back, ID, State string }

func actionsOf(v *view, id, state string) actions { return actions{v.Forms, v.Back, id, state} }

// A fact is a part of an envelope and its name.
type fact struct{ Name, Value string }

// fieldsOf returns what is known of an envelope; what is empty is not shown.
func fieldsOf(l queue.Listed) []fact {
	ev := &l.Envelope
	given := ""
	if ev.Rcpt != ev.Dest {
		given = ev.Rcpt.String()
	}
	return []fact{
		{"Envelope", ev.ID.String()}, {"Carried by", ev.Type.String()}, {"Action", ev.Action}, {"Given as", given},
		{"Created", stamp(ev.Created)}, {"Last try", stamp(ev.LastTry)}, {"Next try", stamp(ev.NextTry)}, {"Expires", stamp(ev.Expires)},
		{"Tries", strconv.Itoa(int(ev.Tries))}, {"Client", ev.Helo}, {"Listener tag", ev.Tag}, {"Received as", ev.SMTPName},
		{"Flags", strings.Join(ev.Flags.Words(), ", ")}, {"Local user", ev.LocalUser}, {"Host", ev.Remote},
	}
}
