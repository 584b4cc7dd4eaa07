package generation

import (
	"fmt"
	"slices"
	"strings"

	"smtpd/ast/old"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A Guess is what generation a text is of, and what shows it.
type Guess struct {
	Generation int // 1, 2, or 3 for action and match
	Dialect    old.Dialect

	// Mark is the place of the word that decided; invalid if none did.
	Mark token.Span
	Why  string // the construct, for a message

	// Mixed are the marks of generation 1 in a text that has marks of both,
	// and First is the dialect if it is of that one.
	Mixed []Mark
	First old.Dialect
}

// A Mark is a construct that only one generation has.
type Mark struct {
	Span token.Span
	Text string
}

// Recognise says which generation a text is of. The diagnostic is not nil if
// it is of two that no program read together.
func Recognise(s *lang.Scanned) (Guess, *diag.Diagnostic) {
	var m marks
	for _, toks := range s.Statements {
		m.statement(toks)
	}
	switch {
	case m.rule != nil && m.match != nil:
		return Guess{}, mixed(m.rule, m.match)
	case m.match != nil:
		return Guess{Generation: 3, Mark: m.match.Span, Why: m.match.Text}, nil
	case m.rule == nil && len(m.first)+len(m.second) == 0:
		return Guess{Generation: 3}, nil
	}
	g := Guess{Generation: 2, Dialect: m.second2()}
	switch {
	case len(m.second) > 0:
		g.Mark, g.Why = m.second[0].Span, m.second[0].Text
		g.Mixed, g.First = m.first, m.first1()
	case len(m.first) > 0:
		g.Generation, g.Dialect = 1, m.first1()
		g.Mark, g.Why = m.first[0].Span, m.first[0].Text
	case m.weak != nil:
		g.Generation, g.Dialect = 1, m.first1()
		g.Mark, g.Why = m.weak.Span, m.weak.Text
	}
	return g, nil
}

func mixed(rule, match *Mark) *diag.Diagnostic {
	return &diag.Diagnostic{
		Span: rule.Span, Class: diag.Language, Code: "mixed-generations",
		Message: fmt.Sprintf("`%s` and `%s` are of different generations of the language", rule.Text, match.Text),
		Label:   "no release reads this file",
		Notes:   []diag.Note{{Span: match.Span, Message: "a rule of the present language"}},
		Help:    []string{"decide for one of the two; what of the other is right cannot be told from the text"},
	}
}

// marks collects what tells generations and dialects apart.
type marks struct {
	rule, match   *Mark
	first, second []Mark
	weak          *Mark
	maps          []string // names that a map declares
	words         map[string]bool
	only2A        bool // a construct that 5.4.1 took away
	only2B        bool // one that it brought
}

func (m *marks) say(list *[]Mark, toks []lang.Token, i int, text string) {
	*list = append(*list, Mark{token.Span{Start: toks[i].Pos, End: toks[i].End}, text})
}

// statement looks at one statement.
func (m *marks) statement(toks []lang.Token) {
	if m.words == nil {
		m.words = make(map[string]bool)
	}
	if len(toks) < 2 || toks[1].Is("=") || toks[0].Kind != lang.WordToken {
		return
	}
	span := token.Span{Start: toks[0].Pos, End: toks[0].End}
	switch w := toks[0].Text; w {
	case "accept", "reject":
		if m.rule == nil {
			m.rule = &Mark{span, w}
		}
		m.ruleMarks(toks)
	case "action", "match":
		if m.match == nil {
			m.match = &Mark{span, w}
		}
	case "map":
		m.say(&m.first, toks, 0, "map")
		m.maps = append(m.maps, toks[1].Text)
		m.mapMarks(toks)
	case "hostname", "size", "ssmtp":
		m.say(&m.first, toks, 0, w)
		m.words[w] = true
	case "table", "bounce-warn", "max-message-size", "max-mta-deferred", "subaddressing-delimiter", "curve", "enqueuer", "filterchain":
		m.say(&m.second, toks, 0, w)
		m.words[w] = true
	case "ciphers":
		m.say(&m.second, toks, 0, w)
		m.only2B = true
	case "filter", "limit", "queue", "pki", "ca", "listen", "expire":
		m.settingMarks(w, toks)
	}
}

func (m *marks) mapMarks(toks []lang.Token) {
	for i := range toks {
		switch {
		case toks[i].Is("config"), toks[i].Is("type"):
			m.words["map option"] = true
		case toks[i].Is("{") && i == 2:
			m.words["map braces"] = true
		}
	}
	if len(toks) > 2 && toks[2].Is("source") {
		m.words["map source"] = true
	} else if len(toks) == 4 && toks[2].IsString() {
		m.words["map path"] = true
	}
}

func (m *marks) settingMarks(w string, toks []lang.Token) {
	second := toks[1].Text
	switch {
	case w == "queue" && (second == "interval" || second == "compress"), w == "queue" && second == "compression" && len(toks) > 3:
		m.say(&m.first, toks, 1, "queue "+second)
		m.words["queue "+second] = true
	case w == "queue" && second == "encryption":
		m.say(&m.second, toks, 1, "queue encryption")
	case w == "limit":
		m.say(&m.second, toks, 0, "limit "+second)
		if second != "mta" {
			m.only2B = true
		}
	case w == "pki" && slices.ContainsFunc(toks, func(t lang.Token) bool { return t.Is("certificate") || t.Is("key") || t.Is("dhparams") }),
		w == "ca" && len(toks) > 2 && toks[2].Is("certificate"):
		m.say(&m.second, toks, 0, w+" NAME certificate")
		m.only2B = true
		if w == "ca" {
			m.words["ca"] = true
		}
		for i := range toks {
			if toks[i].Is("ca") && i > 1 {
				m.words["pki ca"] = true
			}
			if toks[i].Is("dhe") {
				m.words["dhe"] = true
			}
		}
	case w == "filter" && !present(toks):
		m.say(&m.second, toks, 0, "filter")
	case w == "listen":
		m.listenMarks(toks)
	}
}

// present reports whether a filter statement is of the present language.
func present(toks []lang.Token) bool {
	return len(toks) > 3 && (toks[2].Is("proc") || toks[2].Is("proc-exec") || toks[2].Is("phase") || toks[2].Is("builtin") ||
		toks[2].Is("chain") && toks[3].Is("{"))
}

func (m *marks) listenMarks(toks []lang.Token) {
	for i := 3; i < len(toks); i++ {
		switch t := toks[i].Text; {
		case toks[i].Kind != lang.WordToken:
		case t == "enable":
			m.say(&m.first, toks, i, "enable auth")
			m.words["enable auth"] = true
		case t == "certificate":
			m.only2A = true
			m.words["certificate"] = true
		case t == "ssl":
			m.only2A = true
		case slices.Contains([]string{"hostname", "hostnames", "inet4", "inet6", "mask-source", "senders", "received-auth", "no-dsn", "filter", "secure", "verify", "pki", "ca", "dsn-ret", "dsn-notify"}, t):
			m.say(&m.second, toks, i, "listen … "+t)
			if t != "hostname" && t != "inet4" && t != "inet6" {
				m.only2B = true
			}
			m.words["listen "+t] = true
		case t == "auth" && toks[i-1].Is("enable"):
		case t == "auth" || t == "auth-optional" || t == "tls-require":
			m.words[t] = true
		case t == "tag":
			m.words["tag"] = true
		}
	}
}

// rule2 are the words in a rule that only generation 2 has.
var rule2 = map[string]bool{
	"tagged": true, "sender": true, "recipient": true, "userbase": true, "authenticated": true, "forward-only": true, "lmtp": true,
}

func (m *marks) ruleMarks(toks []lang.Token) {
	action := false
	for i := 1; i < len(toks); i++ {
		t, next := &toks[i], &toks[min(i+1, len(toks)-1)]
		if t.Kind == lang.StringToken || t.Kind == lang.WordToken {
			m.texts(toks, i)
		}
		switch {
		case t.Is("<"):
			m.say(&m.second, toks, i, "<NAME>")
		case t.Is("!"):
			m.say(&m.second, toks, i, "!")
			m.only2B = true
		case t.Is("("):
			m.say(&m.first, toks, i, "a list in parentheses")
		case t.Kind != lang.WordToken:
		case t.Text == "deliver" || t.Text == "relay":
			action = true
			if t.Text == "relay" {
				m.relayMarks(toks, i)
			}
		case rule2[t.Text]:
			m.say(&m.second, toks, i, t.Text)
			m.only2B = m.only2B || t.Text == "recipient" || t.Text == "authenticated" || t.Text == "forward-only"
			m.words[t.Text] = true
		case t.Text == "from" || t.Text == "for":
			m.fromMarks(toks, i)
		case t.Text == "on" && i == 1:
			m.say(&m.first, toks, i, "on NAME")
			m.words["on"] = true
		case (t.Text == "tag") && action:
			m.say(&m.first, toks, i, "tag after the action")
		case t.Text == "user" && action && next.IsString():
			m.say(&m.first, toks, i, "user NAME")
			m.words["user"] = true
		case t.Text == "as" && action:
			m.words["as"] = true
			if slices.ContainsFunc(toks[:i], func(t lang.Token) bool { return t.Is("maildir") }) {
				m.say(&m.first, toks, i, "maildir … as")
			}
		case (t.Text == "alias" || t.Text == "auth") && next.IsString() && slices.Contains(m.maps, next.Text):
			m.say(&m.first, toks, i, t.Text+" NAME of a map")
		case t.Text == "virtual" && action:
			m.only2A = true
		}
	}
	if !action && toks[0].Text == "accept" {
		m.say(&m.second, toks, 0, "a rule without action")
		m.only2B = true
	}
	if action && toks[0].Text == "reject" {
		m.say(&m.first, toks, 0, "reject with an action")
		m.words["reject action"] = true
	}
	if virtualRelay(toks) {
		m.only2A = true
	}
}

// virtualRelay reports whether a rule has virtual and relay.
func virtualRelay(toks []lang.Token) bool {
	is := func(w string) func(t lang.Token) bool { return func(t lang.Token) bool { return t.Is(w) } }
	v, r := slices.IndexFunc(toks, is("virtual")), slices.IndexFunc(toks, is("relay"))
	return v >= 0 && r > v && !toks[v-1].Is("for")
}

// texts looks into a string for expansions, which changed with the
// generations.
func (m *marks) texts(toks []lang.Token, i int) {
	text := toks[i].Text
	at := strings.IndexByte(text, '%')
	switch {
	case strings.Contains(text, "%{"):
		m.say(&m.second, toks, i, "%{…}")
	case at >= 0 && m.weak == nil:
		rest := strings.TrimLeft(text[at+1:], "0123456789")
		if rest != "" && strings.IndexByte("uadADU", rest[0]) >= 0 {
			m.weak = &Mark{token.Span{Start: toks[i].Pos, End: toks[i].End}, text[at : len(text)-len(rest)+1]}
		}
	}
}

func (m *marks) fromMarks(toks []lang.Token, i int) {
	next := &toks[min(i+1, len(toks)-1)]
	switch {
	case next.Is("all"):
		m.say(&m.first, toks, i, toks[i].Text+" all")
		m.words[toks[i].Text+" all"] = true
	case next.Is("any"):
		m.words["any"] = true
	case next.Is("map"):
		m.say(&m.first, toks, i, toks[i].Text+" map")
		m.words["from map"] = true
	case next.Is("source") && toks[i].Text == "from":
		m.say(&m.second, toks, i, "from source")
		m.only2B = true
	case toks[i].Text == "from" && !next.Is("local") && !next.Is("!"):
		m.only2A = true
	case next.Is("virtual"), next.Is("network"):
		m.say(&m.first, toks, i, "for "+next.Text)
		m.words["for "+next.Text] = true
		if i+2 < len(toks) && toks[i+2].Is("map") {
			m.words["for virtual map"] = true
		}
	case next.Is("{") && toks[i].Text == "for":
		m.say(&m.first, toks, i, "for { … }")
	}
}

func (m *marks) relayMarks(toks []lang.Token, i int) {
	rest := toks[i+1:]
	via := -1
	for j := range rest {
		t := &rest[j]
		switch {
		case t.Kind != lang.WordToken:
		case t.Text == "via" && via < 0:
			via = j
		case t.Text == "source" || t.Text == "helo" || t.Text == "hostname" || t.Text == "hostnames" || t.Text == "pki" || t.Text == "ca" || t.Text == "verify":
			m.say(&m.second, toks, i+1+j, "relay … "+t.Text)
			m.only2A = m.only2A || t.Text == "helo"
			m.only2B = m.only2B || t.Text != "helo" && t.Text != "source"
			m.words["relay "+t.Text] = true
		case t.Text == "tls" && via < 0:
			m.say(&m.second, toks, i+1+j, "relay tls")
			m.only2B = true
		case via >= 0 && j > via+1 && (t.Text == "port" || t.Text == "smtps" || t.Text == "tls" || t.Text == "ssl" || t.Text == "enable"):
			m.say(&m.first, toks, i+1+j, "relay via HOST "+t.Text)
			m.words["relay via HOST"] = true
			if t.Text == "enable" {
				m.words["relay enable auth"] = true
			}
		case t.Text == "auth" && via >= 0:
			m.words["relay auth"] = true
		case t.Text == "certificate" && via >= 0:
			m.only2A = true
		case t.Text == "backup" && j == 0 && !(len(rest) > 1 && rest[1].IsString() && rest[1].Text != "as"):
			m.say(&m.second, toks, i+1+j, "relay backup without a name")
		case t.Text == "backup" && j == 0:
			m.words["relay backup"] = true
		}
	}
	if via >= 0 && via+1 < len(rest) {
		m.urlMarks(toks, i+via+2)
	}
}

func (m *marks) urlMarks(toks []lang.Token, i int) {
	scheme, rest, ok := strings.Cut(toks[i].Text, "://")
	scheme = strings.ToLower(scheme)
	switch {
	case toks[i].Is("ssl"), toks[i].Is("ssmtp"), toks[i].Is("tls"):
		if i+1 < len(toks) && toks[i+1].IsString() {
			m.say(&m.first, toks, i, "relay via "+toks[i].Text)
			m.words["relay via ssl HOST"] = true
		}
	case !ok:
	case strings.HasSuffix(scheme, "+auth") && !strings.Contains(rest, "@"):
		m.say(&m.first, toks, i, "a URL with +auth and without label")
		m.words["url"] = true
	case scheme == "smtp+tls", scheme == "lmtp", scheme == "backup", scheme == "tls+backup", scheme == "secure", scheme == "secure+auth":
		m.say(&m.second, toks, i, scheme+"://")
		if scheme != "smtp+tls" && scheme != "lmtp" && scheme != "backup" {
			m.only2B = true
		}
	case scheme == "ssl", scheme == "ssl+auth":
		m.only2A = true
		m.words["url"] = true
	default:
		m.words["url"] = true
	}
}

// first1 returns the dialect of a text of generation 1.
func (m *marks) first1() old.Dialect {
	w := m.words
	switch {
	case !w["for all"] && (w["any"] || w["tls-require"] || w["map path"] || w["auth"] || w["auth-optional"]):
		return old.D1E
	case w["relay backup"], w["queue compress"], w["url"], w["from map"], w["map source"], w["for virtual map"]:
		return old.D1D
	case w["as"], w["size"], w["relay auth"]:
		return old.D1C
	case w["ssmtp"], w["relay via ssl HOST"]:
		return old.D1A
	}
	return old.D1B
}

// second2 returns the dialect of a text of generation 2: the last that its
// constructs allow, since the later releases were in use the longest.
func (m *marks) second2() old.Dialect {
	switch {
	case m.only2A && !m.only2B:
		if m.words["listen inet4"] || m.words["listen inet6"] {
			return old.D54
		}
		return old.D53
	case m.words["pki ca"]:
		return old.D541
	case m.words["authenticated"], m.words["subaddressing-delimiter"]:
		return old.D603
	case m.words["dhe"]:
		return old.D60
	}
	return old.D57
}
