package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"smtpd/ast/old"
	"smtpd/compile"
	"smtpd/lang/diag"
)

// renamed are settings that have another name today and take the same.
var renamed = map[string]string{
	"expire":                  "queue ttl",
	"max-message-size":        "smtp max-message-size",
	"max-mta-deferred":        "mta max-deferred",
	"subaddressing-delimiter": "smtp sub-addr-delim",
	"ciphers":                 "smtp ciphers",
	"limit session":           "smtp limit",
	"limit mda":               "mda limit",
	"limit mta":               "mta limit",
	"limit scheduler":         "scheduler limit",
}

// setting converts what holds for the whole server.
func (c *converter) setting(s *old.Setting) {
	switch s.Word {
	case "expire":
		c.emit("queue ttl %s", c.delay(s.Args[0]))
	case "max-message-size":
		c.emit("smtp max-message-size %s", c.size(s.Args[0]))
	case "bounce-warn":
		c.bounce(s)
	case "queue compression":
		c.emit("queue compression")
	case "queue encryption":
		if len(s.Args) > 0 && len(s.Args[0].Text) != 32 && s.Args[0].Text != "stdin" && s.Args[0].Text != "-" {
			c.comment("a key has 32 bytes")
			c.note(diag.Security, "migrate-queue-key", "a key of the queue has 32 bytes and this one %d: the queue is not encrypted before there is a right one", len(s.Args[0].Text))
			return
		}
		c.emit("%s", strings.Join(append([]string{"queue encryption"}, c.strs(s.Args)...), " "))
	case "queue interval", "curve":
		c.comment("no successor")
		c.note(diag.Warning, "migrate-dropped", "`%s` has no successor and is left out", s.Word)
	case "hostname":
		c.comment("on each listener and relay below")
		c.note(diag.Warning, "migrate-hostname", "the server's own name comes from the file mailname now: put %q there", s.Args[0].Text).
			Help = []string{"the name is written at every listener and relay, but `for local` and reports of delivery take the server's"}
	default:
		words := []string{renamed[s.Word]}
		if s.Domain != nil {
			words = append(words, "for domain", c.str(s.Domain))
		}
		for i, a := range s.Args {
			if strings.HasPrefix(s.Word, "limit") && !a.Number && (i == 0 || s.Args[i-1].Number || isFamily(s.Args[i-1].Text)) {
				words = append(words, a.Text) // the name of a limit
				continue
			}
			words = append(words, c.str(a))
		}
		c.emit("%s", strings.Join(words, " "))
	}
}

func isFamily(word string) bool { return word == "inet4" || word == "inet6" }

func (c *converter) strs(list []*old.Str) []string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = c.str(s)
	}
	return words
}

// size returns a size, without quotes if it needs none.
func (c *converter) size(s *old.Str) string {
	if !c.keeps(s.Macro) && s.Text != "" && strings.Trim(s.Text[:len(s.Text)-1], "0123456789") == "" && isAlnum(s.Text[0]) {
		return s.Text
	}
	return c.str(s)
}

// bounce converts the ages at which a delay is reported. An empty list, which
// meant never, becomes an age that no mail reaches.
func (c *converter) bounce(s *old.Setting) {
	if len(s.Args) == 0 {
		never := c.longest/(24*time.Hour) + 1
		c.emit("bounce warn-interval %dd", never)
		c.note(diag.Portability, "migrate-bounce", "reports of a delay cannot be switched off; with %dd none ever falls due", never)
		return
	}
	words := make([]string, len(s.Args))
	for i, a := range s.Args {
		words[i] = c.delay(a)
	}
	c.emit("bounce warn-interval %s", strings.Join(words, ", "))
}

// served reports whether a program serves the tables of a backend.
func served(backend string) bool {
	_, _, ok := (&compile.Table{Backend: backend}).Program()
	return ok && backend != "file"
}

// table converts the declaration of a table.
func (c *converter) table(t *old.Table) {
	name := c.name(&t.Name)
	switch {
	case t.Elems != nil:
		c.emit("table %s %s", name, c.arg(t.Elems))
	case t.Source == "db":
		c.emit("table %s %s", name, c.spec(t.Path, "db:"+t.Path.Text))
	case t.Source == "plain" || t.Source == "file":
		c.emit("table %s %s", name, c.spec(t.Path, "file:"+t.Path.Text))
	case t.Spec != nil:
		backend, _, ok := strings.Cut(t.Spec.Text, ":")
		if ok && served(backend) && !strings.HasPrefix(t.Spec.Text, "/") && !c.backends[backend] {
			c.backends[backend] = true
			c.note(diag.Warning, "migrate-backend", "tables of type %q are served by the program table-%s, which speaks another protocol now: install its present release", backend, backend).
				Help = []string{"its own file of settings may have changed too"}
		}
		c.emit("table %s %s", name, c.spec(t.Spec, t.Spec.Text))
	default:
		c.comment("no successor")
		c.note(diag.Warning, "migrate-dropped", "a map without a file never had anything in it, and is left out")
	}
}

// spec returns where a table comes from.
func (c *converter) spec(s *old.Str, text string) string {
	if c.keeps(s.Macro) && text == s.Text {
		return s.Macro
	}
	if c.bare(text) {
		return text
	}
	return quote(text)
}

// counterparts are what to use in place of a filter program.
var counterparts = map[string]string{
	"dkim-signer":  "filter-dkimsign, as a filter with proc-exec",
	"dnsbl":        "filter-dnsbl, as a filter with proc-exec",
	"rspamd":       "filter-rspamd, as a filter with proc-exec",
	"spamassassin": "a filter with proc-exec, or a tagged listener behind a proxy",
	"clamav":       "a filter with proc-exec, or a tagged listener behind a proxy",
	"regex":        "a filter of the language: filter NAME phase PHASE match … regex … reject",
	"lua":          "the same written anew for the line protocol of filters",
	"perl":         "the same written anew for the line protocol of filters",
	"python":       "the same written anew for the line protocol of filters",
}

// filter keeps a statement about filters as a comment.
func (c *converter) filter(f *old.Filter) {
	c.comment("the interface of this filter is gone")
	d := c.note(diag.Warning, "migrate-filter", "filters of before 6.5 spoke an interface that is gone: the statement is left out")
	for _, prog := range slices.Sorted(maps.Keys(counterparts)) {
		if f.Prog == prog || strings.HasSuffix(f.Prog, "/filter-"+prog) || f.Name == prog {
			d.Help = append(d.Help, fmt.Sprintf("in place of %s there is %s", prog, counterparts[prog]))
		}
	}
}
