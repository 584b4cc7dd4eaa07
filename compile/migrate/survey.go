package migrate

import (
	"strings"
	"time"

	"smtpd/ast/old"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
)

// facts are what must be known of the whole file before its first statement
// is converted.
type facts struct {
	auth      bool                  // a listener offers authentication
	localTag  bool                  // a rule names the tag of the socket
	socket    bool                  // there is a line for the socket
	hostnames bool                  // a listener has a name of its own
	sized     bool                  // there is a limit for messages
	expands   bool                  // a rule has aliases
	catchAll  bool                  // a rule is for all mail of this host
	server    string                // hostname of generation 1
	longest   time.Duration         // of what mail may stay in the queue
	tables    map[string]*old.Table // all that are declared
	tags      map[string]bool       // those that rules name
	tagged    map[string]string     // those of the file, by their lower case
	certs     map[string]bool       // names of certificates
	cas       map[string]string     // of a pki with a ca of its own
	lastPart  map[string]int        // the last statement about a certificate
}

// survey looks through the file.
func (c *converter) survey() {
	c.facts = facts{
		longest: 4 * 24 * time.Hour,
		tables:  make(map[string]*old.Table),
		tags:    make(map[string]bool), tagged: make(map[string]string),
		certs: make(map[string]bool), cas: make(map[string]string), lastPart: make(map[string]int),
	}
	for i, s := range c.file.Stmts {
		c.stmt = s
		switch {
		case s.Listen != nil:
			c.auth = c.auth || s.Listen.Auth != ""
			c.hostnames = c.hostnames || s.Listen.Hostname != nil
			c.socket = c.socket || s.Listen.Socket
			c.knowTag(s.Listen.Tag)
		case s.Table != nil:
			c.tables[s.Table.Name.Text] = s.Table
		case s.PKI != nil:
			c.surveyPKI(i, s.PKI)
		case s.Setting != nil:
			c.surveySetting(s.Setting)
		case s.Rule != nil:
			c.surveyRule(s.Rule)
		}
	}
}

func (c *converter) surveyPKI(i int, p *old.PKI) {
	name := certName(p.Name.Text)
	c.certs[name] = true
	c.lastPart[name] = i
	for _, o := range p.Options {
		if o.Word == "ca" {
			c.cas[name] = name
		}
	}
}

func (c *converter) surveySetting(s *old.Setting) {
	switch s.Word {
	case "hostname":
		c.server = s.Args[0].Text
	case "max-message-size":
		c.sized = true
	case "expire":
		c.outlive(s.Args[0])
	}
}

func (c *converter) surveyRule(r *old.Rule) {
	if r.Tag != nil {
		c.tags[r.Tag.Text] = true
		c.localTag = c.localTag || strings.EqualFold(r.Tag.Text, "local")
		c.knowTag(r.Tag)
	}
	if r.Expire != nil {
		c.outlive(r.Expire)
	}
	c.expands = c.expands || r.Alias != nil || r.Virtual != nil
	for _, f := range r.For {
		c.expands = c.expands || f.Virtual != nil
		c.catchAll = c.catchAll || f.Any && !r.Reject && r.Tag == nil && (r.From == nil || r.From.Local || r.From.Any)
	}
}

// knowTag refuses two tags that are one today.
func (c *converter) knowTag(tag *old.Str) {
	if tag == nil {
		return
	}
	folded := tablefile.Fold(tag.Text)
	other, known := c.tagged[folded]
	if known && other != tag.Text {
		c.note(diag.Language, "migrate-tag-case", "tags %q and %q are one: case makes no difference any more", other, tag.Text).
			Help = []string{"give one of them another name, in the listener and in the rules"}
		return
	}
	c.tagged[folded] = tag.Text
}

// outlive remembers how long mail may stay in the queue.
func (c *converter) outlive(delay *old.Str) {
	if d, ok := delayOf(delay.Text); ok {
		c.longest = max(c.longest, d)
	}
}

// delayOf reads a delay such as 4d.
func delayOf(text string) (time.Duration, bool) {
	if len(text) < 2 {
		return 0, false
	}
	unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[text[len(text)-1]]
	var n time.Duration
	for _, digit := range []byte(text[:len(text)-1]) {
		if digit < '0' || digit > '9' || n > 1<<31 {
			return 0, false
		}
		n = 10*n + time.Duration(digit-'0')
	}
	return n * unit, unit > 0 && n < 1<<31
}
