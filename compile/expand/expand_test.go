package expand

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
)

var errDown = errors.New("down")

// A scene is a world in maps. The domain of an address chooses the action of
// the same name without ".example"; every other domain is relayed, but for
// "nowhere.example", which no rule matches, "rejected.example" and
// "broken.example", whose lookup fails.
type scene struct {
	aliases  map[string]string // of the actions alias, forwardonly, expandonly
	virtual  map[string]string
	users    []string // root… has uid 0
	forwards map[string]string
	includes map[string]string

	internal []string // addresses that were said to come from an expansion
	asked    []string // alias keys, in order
}

var sceneActions = []compile.Action{
	{Name: "relay", Method: compile.Relay},
	{Name: "plain", Method: compile.MBox},
	{Name: "alias", Method: compile.Maildir, Alias: 1},
	{Name: "virtual", Method: compile.Maildir, Virtual: 2},
	{Name: "forwardonly", Method: compile.ForwardOnly, Alias: 1},
	{Name: "expandonly", Method: compile.ExpandOnly, Alias: 1},
	{Name: "vmail", Method: compile.Maildir, User: "vmail", Userbase: 3},
}

func sceneRules() *compile.Ruleset {
	rs := &compile.Ruleset{Actions: sceneActions, Tables: make([]compile.Table, 3)}
	rs.SMTP.SubAddrDelim = '+'
	for i := range rs.Actions {
		rs.Rules = append(rs.Rules, compile.Rule{Action: compile.ActionID(i + 1)})
	}
	return rs
}

func (s *scene) Decide(_ context.Context, dest engine.Address, internal bool) engine.Decision {
	if internal {
		s.internal = append(s.internal, dest.String())
	}
	name := strings.TrimSuffix(dest.Domain, ".example")
	switch name {
	case "nowhere":
		return engine.Decision{Outcome: engine.NoRule, Rule: -1}
	case "rejected":
		return engine.Decision{Outcome: engine.Reject}
	case "broken":
		return engine.Decision{Outcome: engine.TempFail, Err: errDown}
	}
	for i, a := range sceneActions {
		if a.Name == name {
			return engine.Decision{Outcome: engine.Accept, Rule: i}
		}
	}
	return engine.Decision{Outcome: engine.Accept, Rule: 0}
}

func (s *scene) Alias(_ context.Context, t compile.TableID, key string) (string, bool, error) {
	s.asked = append(s.asked, key)
	v, ok := s.aliases[key]
	if t == 2 {
		v, ok = s.virtual[key]
	}
	switch v {
	case "DOWN":
		return "", false, errDown
	case "UNKNOWN":
		return "", false, ErrUnknown
	}
	return v, ok, nil
}

func (s *scene) User(_ context.Context, t compile.TableID, name string) (Account, bool, error) {
	for i, u := range s.users {
		if u == name {
			uid := uint32(1000 + i)
			if strings.HasPrefix(u, "root") {
				uid = 0
			}
			return Account{Name: u, UID: uid, Home: "/home/" + u}, true, nil
		}
	}
	if name == "down" {
		return Account{}, false, errDown
	}
	return Account{}, false, nil
}

func (s *scene) Forward(_ context.Context, u Account) (string, bool, error) {
	text, ok := s.forwards[u.Name]
	switch text {
	case "TEMP":
		return "", false, fmt.Errorf("open: %w", errDown)
	case "PERM":
		return "", false, fmt.Errorf("open: %w", ErrForbidden)
	}
	return text, ok, nil
}

func (s *scene) Include(_ context.Context, path string) (string, bool, error) {
	text, ok := s.includes[path]
	if text == "DOWN" {
		return "", false, errDown
	}
	return text, ok, nil
}

func parseAddress(s string) engine.Address {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return engine.Address{User: s}
	}
	return engine.Address{User: s[:i], Domain: s[i+1:]}
}

// expand returns the deliveries of rcpt one a line, or the reply.
func (s *scene) expand(t *testing.T, rcpt string) string {
	t.Helper()
	return outcome(t, &Expansion{World: s, Rules: sceneRules()}, rcpt)
}

// outcome returns what an expansion makes of rcpt, as expand does.
func outcome(t *testing.T, e *Expansion, rcpt string) string {
	t.Helper()
	e.CommandUser, e.Warn = "_smtpd", func(string, ...any) {}
	out, err := e.Run(t.Context(), parseAddress(rcpt))
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) {
			t.Fatalf("%s: error that is no refusal: %v", rcpt, err)
		}
		return r.Reply
	}
	var lines []string
	for _, d := range out {
		line := e.Rules.Action(d.Action).Name + " " + d.Dest.String()
		if d.User != "" {
			line += " user=" + d.User
		}
		if d.Sub != "" {
			line += " sub=" + d.Sub
		}
		switch d.Execute {
		case ByCommand:
			line += " command=" + d.Exec
		case ByFile:
			line += " file=" + d.Exec
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// numbered returns n addresses, one a line.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "u%d@remote.net\n", i)
	}
	return b.String()
}

type rows []struct {
	name, rcpt, want string
}

func (tests rows) run(t *testing.T, s *scene) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := s.expand(t, tt.rcpt); got != tt.want {
				t.Errorf("%s:\ngot:\n%s\nwant:\n%s", tt.rcpt, got, tt.want)
			}
		})
	}
}

func TestExpandRules(t *testing.T) {
	s := &scene{users: []string{"alice"}, aliases: map[string]string{
		"out":  "bob@remote.net, alice",
		"half": "alice, bob@rejected.example",
		"gone": "alice, nobody",
		"late": "bob@broken.example, nobody",
	}}
	rows{
		{"relay", "bob@remote.net", "relay bob@remote.net"},
		{"no rule", "bob@nowhere.example", "550 Invalid recipient"},
		{"reject", "bob@rejected.example", "550 Invalid recipient"},
		{"lookup error", "bob@broken.example", "451 Temporary failure"},
		{"local", "Alice@plain.example", "plain Alice@plain.example user=alice"},
		{"unknown user", "bob@plain.example", "550 Invalid recipient"},
		{"user lookup error", "down@plain.example", "451 Temporary failure"},
		{"expanded address", "out@alias.example", "relay bob@remote.net\nalias out@alias.example user=alice"},
		{"one address refused refuses all", "half@alias.example", "550 Invalid recipient"},
		{"one user unknown refuses all", "gone@alias.example", "550 Invalid recipient"},
		{"the first failure wins", "late@alias.example", "451 Temporary failure"},
		{"no address", "a b@plain.example", "550 Invalid recipient"},
		{"no domain", "alice", "550 Invalid recipient"},
		{"a path", "../../etc@plain.example", "550 Invalid recipient"},
		{"literal", "alice@[127.0.0.1]", "relay alice@[127.0.0.1]"},
		{"quoted", `"a b"@remote.net`, `relay "a b"@remote.net`},
		{"quoted without need", `"alice"@plain.example`, "550 Invalid recipient"},
		{"half quoted", `"alice@plain.example`, "550 Invalid recipient"},
		{"a line", "\"a\r\nb\"@remote.net", "550 Invalid recipient"},
		{"a quoted path", `"../../etc passwd"@remote.net`, "550 Invalid recipient"},
		{"internationalized", "jos\u00e9@remote.net", "relay jos\u00e9@remote.net"},
		{"no text", "a\xff@remote.net", "550 Invalid recipient"},
	}.run(t, s)
	if got := strings.Join(s.internal, " "); got != "bob@remote.net bob@rejected.example bob@broken.example" {
		t.Errorf("addresses said to be internal: %s", got)
	}
}

// TestExpandQuoted checks that the sub-address of a quoted local part is within
// its quotes, and that it finds whoever has the name before it.
func TestExpandQuoted(t *testing.T) {
	s := &scene{
		users:   []string{"alice", `"a b"`, "jos\u00e9"},
		aliases: map[string]string{`"c d"`: "alice", `"c d+x"`: "bob@remote.net"},
		virtual: map[string]string{`"a b"@virtual.example`: "alice"},
	}
	rows{
		{"user", `"A b"@plain.example`, `plain "A b"@plain.example user="a b"`},
		{"user with a tag", `"a b+my tag"@plain.example`, `plain "a b+my tag"@plain.example user="a b" sub=my tag`},
		{"only the tag needs quotes", `"alice+my tag"@plain.example`, `plain "alice+my tag"@plain.example user=alice sub=my tag`},
		{"alias", `"c d"@alias.example`, `alias "c d"@alias.example user=alice`},
		{"alias without the tag", `"c d+y"@alias.example`, `alias "c d+y"@alias.example user=alice`},
		{"alias with the tag", `"c d+x"@alias.example`, "relay bob@remote.net"},
		{"virtual", `"a b+x y"@virtual.example`, `virtual "a b+x y"@virtual.example user=alice`},
		{"unknown", `"b a+x"@plain.example`, "550 Invalid recipient"},
		{"nobody but a tag", `"+x y"@plain.example`, "550 Invalid recipient"},
		{"internationalized", "jos\u00e9+x@plain.example", "plain jos\u00e9+x@plain.example user=jos\u00e9 sub=x"},
	}.run(t, s)
}

// TestForRules checks that quotes around a sub-address are no way past a rule
// about the user who gets the mail.
func TestForRules(t *testing.T) {
	for user, want := range map[string]string{
		"alice": "alice", "alice+x": "alice+x", `"alice+ x"`: "alice+ x", `"alice+x@y"`: "alice+x@y", `"a b"`: `"a b"`, `"a b+x"`: `"a b"+x`,
	} {
		a := ForRules(engine.Address{User: user, Domain: "example.org"}, '+')
		if a.User != want || a.Domain != "example.org" {
			t.Errorf("%s is shown as %s, want %s", user, a.User, want)
		}
		name, _ := SplitUser(user, '+')
		if !engine.MatchMailAddr(name+"@example.org", a.String(), '+') {
			t.Errorf("%s: what is said of %s does not hold", user, name)
		}
	}
}

func TestSplitUser(t *testing.T) {
	for local, want := range map[string][2]string{
		"alice":             {"alice", ""},
		"alice+x+y":         {"alice", "x+y"},
		"+x":                {"", "x"},
		`"a b"`:             {`"a b"`, ""},
		`"a b+x"`:           {`"a b"`, "x"},
		`"ab+x y"`:          {"ab", "x y"},
		`"a\"b+\\x\""`:      {`"a\"b"`, `\x"`},
		`"+x y"`:            {`""`, "x y"},
		`"a@b+x"`:           {`"a@b"`, "x"},
		`"`:                 {`"`, ""},
		`"a\`:               {`"a\`, ""},
		`"a\"`:              {`"a\""`, ""},
		"\"jos\u00e9 x+y\"": {"\"jos\u00e9 x\"", "y"},
	} {
		if name, sub := SplitUser(local, '+'); name != want[0] || sub != want[1] {
			t.Errorf("SplitUser(%s) = %s, %s, want %q", local, name, sub, want)
		}
	}
}

func TestExpandAliases(t *testing.T) {
	s := &scene{
		users: []string{"alice", "bob", "root"},
		aliases: map[string]string{
			"postmaster": "root",
			"root":       "Alice",
			"carol+x":    "bob",
			"dave":       "dave@plain.example",
			"eve":        "frank",
			"frank":      "eve",
			"bad":        "alice, b c",
			"down":       "DOWN",
			"team":       "alice, bob, alice",
			"self":       "alice, self",
			"sink":       "/var/mail/sink",
			"pipe":       `"|/bin/prog 'a,b'"`,
			"list":       ":include:/list, bob",
			"missing":    ":include:/missing",
			"partly":     ":include:/missing, bob",
			"nested":     ":include:/nested",
			"badlist":    ":include:/bad",
			"nolist":     ":include:/down",
			"closed":     "alice, error:550 5.7.1 list is closed",
			"busy":       ":error:450 later",
			"tagged":     "bob+tag",
			"bob":        "bob+inbox",
			"none":       ",",
		},
		includes: map[string]string{
			"/list":   "alice # comment\ncarol+x, \\\nsomeone@remote.net\n",
			"/nested": "alice\n:include:/list\n",
			"/bad":    "a b\n",
			"/down":   "DOWN",
		},
	}
	rows{
		{"chain", "postmaster@alias.example", "alias postmaster@alias.example user=alice"},
		{"upper case", "PostMaster@alias.example", "alias PostMaster@alias.example user=alice"},
		{"tag, key with tag", "carol+x@alias.example", "alias carol+x@alias.example user=bob sub=inbox"},
		{"tag, key without tag", "root+y@alias.example", "alias root+y@alias.example user=alice"},
		{"tag of a user", "alice+y@alias.example", "alias alice+y@alias.example user=alice sub=y"},
		{"tag with a delimiter in it", "alice+y+z@alias.example", "alias alice+y+z@alias.example user=alice sub=y+z"},
		{"address of another action", "dave@alias.example", "550 Invalid recipient"},
		{"loop", "eve@alias.example", "524 5.2.4 Mailing list expansion problem"},
		{"malformed", "bad@alias.example", "424 4.2.4 Mailing list expansion problem"},
		{"lookup error", "down@alias.example", "424 4.2.4 Mailing list expansion problem"},
		{"twice is once", "team@alias.example", "alias team@alias.example user=alice\nalias team@alias.example user=bob sub=inbox"},
		{"itself unknown", "self@alias.example", "550 Invalid recipient"},
		{"itself with a tag", "bob@alias.example", "alias bob@alias.example user=bob sub=inbox"},
		{"file", "sink@alias.example", "alias sink@alias.example user=_smtpd file=/var/mail/sink"},
		{"command", "pipe@alias.example", "alias pipe@alias.example user=_smtpd command=/bin/prog 'a,b'"},
		{"include", "list@alias.example", "alias list@alias.example user=alice\nrelay someone@remote.net\n" +
			"alias list@alias.example user=bob sub=inbox"},
		{"missing include alone", "missing@alias.example", "550 Invalid recipient"},
		{"missing include", "partly@alias.example", "alias partly@alias.example user=bob sub=inbox"},
		{"nested include is ignored", "nested@alias.example", "alias nested@alias.example user=alice"},
		{"malformed include", "badlist@alias.example", "424 4.2.4 Mailing list expansion problem"},
		{"include error", "nolist@alias.example", "424 4.2.4 Mailing list expansion problem"},
		{"error entry", "closed@alias.example", "550 5.7.1 list is closed"},
		{"temporary error entry", "busy@alias.example", "450 later"},
		{"tag in an alias", "tagged@alias.example", "alias tagged@alias.example user=bob sub=inbox"},
		{"nothing", "none@alias.example", "550 Invalid recipient"},
		{"no aliases", "root@plain.example", "plain root@plain.example user=root"},
	}.run(t, s)
}

func TestExpandVirtual(t *testing.T) {
	s := &scene{
		users: []string{"alice", "bob", "vmail"},
		virtual: map[string]string{
			"alice@virtual.example":     "alice",
			"box+tag@virtual.example":   "alice",
			"box@virtual.example":       "bob",
			"short+tag":                 "alice",
			"short":                     "bob",
			"loop@virtual.example":      "pool@virtual.example",
			"pool@virtual.example":      "loop@virtual.example",
			"user@":                     "alice",
			"touser@virtual.example":    "user",
			"again@virtual.example":     "again",
			"again":                     "again, bob",
			"unknown@virtual.example":   "stranger",
			"broken@virtual.example":    "DOWN",
			"multi@virtual.example":     "alice+x, out@remote.net",
			"missing@virtual.example":   ":include:/missing",
			"mixed@virtual.example":     "|/bin/prog",
			"elsewhere@virtual.example": "alice@plain.example",
			"refused@virtual.example":   "x@nowhere.example",
			"downcased@virtual.example": "ALICE",
			"stop@virtual.example":      "error:550 5.1.6 moved",
		},
	}
	rows{
		{"address", "ALICE@virtual.example", "virtual ALICE@virtual.example user=alice"},
		{"tag and domain", "box+tag@virtual.example", "virtual box+tag@virtual.example user=alice"},
		{"domain without tag", "box+other@virtual.example", "virtual box+other@virtual.example user=bob"},
		{"user with tag", "short+tag@virtual.example", "virtual short+tag@virtual.example user=alice"},
		{"user", "short+no@virtual.example", "virtual short+no@virtual.example user=bob"},
		{"miss", "stranger@virtual.example", "524 5.2.4 Mailing list expansion problem"},
		{"loop", "loop@virtual.example", "524 5.2.4 Mailing list expansion problem"},
		{"user name with empty domain", "touser@virtual.example", "virtual touser@virtual.example user=alice"},
		{"to itself", "again@virtual.example", "550 Invalid recipient"},
		{"unknown user", "unknown@virtual.example", "550 Invalid recipient"},
		{"lookup error", "broken@virtual.example", "424 4.2.4 Mailing list expansion problem"},
		{"several", "multi@virtual.example", "virtual multi@virtual.example user=alice sub=x\nrelay out@remote.net"},
		{"missing include", "missing@virtual.example", "524 5.2.4 Mailing list expansion problem"},
		{"command", "mixed@virtual.example", "virtual mixed@virtual.example user=_smtpd command=/bin/prog"},
		{"other action", "elsewhere@virtual.example", "plain alice@plain.example user=alice"},
		{"refused", "refused@virtual.example", "550 Invalid recipient"},
		{"error", "stop@virtual.example", "550 5.1.6 moved"},
	}.run(t, s)

	s.virtual["@"] = "vmail"
	rows{{"catch-all", "stranger@virtual.example", "virtual stranger@virtual.example user=vmail"}}.run(t, s)
	s.virtual["@virtual.example"] = "bob"
	rows{
		{"catch-all of a domain", "stranger@virtual.example", "virtual stranger@virtual.example user=bob"},
		{"no catch-all for user names", "unknown@virtual.example", "550 Invalid recipient"},
	}.run(t, s)
}

// TestExpandKeys holds the order in which tables are asked (runtime.md 3.4).
func TestExpandKeys(t *testing.T) {
	tests := []struct{ rcpt, want string }{
		{"User+Tag@alias.example", "user+tag user"},
		{"user@alias.example", "user"},
		{"User+Tag@VIRTUAL", "user+tag@virtual user@virtual user+tag user @virtual @"},
		{"user@virtual", "user@virtual user @virtual @"},
	}
	for _, tt := range tests {
		a := parseAddress(tt.rcpt)
		keys := virtualKeys(a, '+')
		if a.Domain == "alias.example" {
			keys = aliasKeys(a.User, '+')
		}
		if got := strings.Join(keys, " "); got != tt.want {
			t.Errorf("%s: keys %q, want %q", tt.rcpt, got, tt.want)
		}
	}
	if got := strings.Join(virtualKeys(engine.Address{User: "user+tag"}, '+'), " "); got != "user+tag@ user@ user+tag user" {
		t.Errorf("user name: keys %q", got)
	}
	if got := strings.Join(aliasKeys("user-tag", '-'), " "); got != "user-tag user" {
		t.Errorf("other delimiter: keys %q", got)
	}
}

func TestExpandForward(t *testing.T) {
	s := &scene{
		users: []string{"alice", "bob", "carol", "dave", "empty", "temp", "perm", "bad", "long", "many", "most", "full",
			"cmd", "err", "inc", "root", "ping", "pong", "down"},
		aliases: map[string]string{"staff": "bob, alice", "cmd2": "cmd"},
		forwards: map[string]string{
			"alice": "# mine too\nalice, alice@remote.net\n",
			"bob":   "\\bob\nalice\n",
			"carol": "dave",
			"empty": "\n # nothing\n",
			"temp":  "TEMP",
			"perm":  "PERM",
			"bad":   "not a name\n",
			"long":  strings.Repeat("#", MaxForward),
			"full":  strings.Repeat("#", MaxForward-2) + "\n",
			"many":  numbered(maxForwardNodes - 1),
			"most":  numbered(maxForwardNodes - 2),
			"cmd":   "|/bin/prog\n/home/cmd/mbox\n",
			"err":   "error:550 gone away",
			"inc":   ":include:/etc/shadow\n",
			"root":  "|/bin/prog",
			"ping":  "pong",
			"pong":  "ping",
		},
		includes: map[string]string{"/etc/shadow": "bob"},
	}
	rows{
		{"none", "dave@alias.example", "alias dave@alias.example user=dave"},
		{"itself and another", "alice@alias.example", "alias alice@alias.example user=alice\nrelay alice@remote.net"},
		{"itself keeps its tag", "alice+t@alias.example", "relay alice@remote.net\nalias alice+t@alias.example user=alice sub=t"},
		{"another user", "carol@alias.example", "alias carol@alias.example user=dave"},
		{"empty", "empty@alias.example", "alias empty@alias.example user=empty"},
		{"longest", "full@alias.example", "alias full@alias.example user=full"},
		{"too long", "long@alias.example", "424 4.2.4 Mailing list expansion problem"},
		{"most", "most@alias.example", strings.TrimSpace(strings.ReplaceAll(numbered(maxForwardNodes-2), "u", "relay u"))},
		{"too many", "many@alias.example", "424 4.2.4 Mailing list expansion problem"},
		{"temporary", "temp@alias.example", "424 4.2.4 Mailing list expansion problem"},
		{"bad permissions", "perm@alias.example", "524 5.2.4 Mailing list expansion problem"},
		{"malformed", "bad@alias.example", "424 4.2.4 Mailing list expansion problem"},
		{"command and file", "cmd@alias.example", "alias cmd@alias.example user=cmd command=/bin/prog\n" +
			"alias cmd@alias.example user=cmd file=/home/cmd/mbox"},
		{"through an alias", "cmd2@alias.example", "alias cmd2@alias.example user=cmd command=/bin/prog\n" +
			"alias cmd2@alias.example user=cmd file=/home/cmd/mbox"},
		{"error", "err@alias.example", "550 gone away"},
		{"include is ignored", "inc@alias.example", "alias inc@alias.example user=inc"},
		{"superuser", "root@alias.example", "451 Temporary failure"},
		{"loop of two", "ping@alias.example", "524 5.2.4 Mailing list expansion problem"},
		{"user of the action skips .forward", "alice@vmail.example", "vmail alice@vmail.example user=alice"},
		{"action without aliases", "alice@plain.example", "plain alice@plain.example user=alice\nrelay alice@remote.net"},
	}.run(t, s)
}

func TestExpandForwardOnly(t *testing.T) {
	s := &scene{
		users: []string{"alice", "bob", "carol", "dave", "eve", "frank"},
		forwards: map[string]string{
			"alice": "alice@remote.net, bob",
			"bob":   "bob@remote.net",
			"carol": "|/bin/prog",
			"dave":  "/home/dave/mbox",
			"eve":   "error:550 no",
			"frank": "frank, frank@remote.net",
		},
		aliases: map[string]string{"far": "far@remote.net"},
	}
	const temp = "424 4.2.4 Mailing list expansion problem"
	rows{
		{"addresses", "alice@forwardonly.example", "relay alice@remote.net\nrelay bob@remote.net"},
		{"alias", "far@forwardonly.example", "relay far@remote.net"},
		{"command", "carol@forwardonly.example", "451 Temporary failure"},
		{"file", "dave@forwardonly.example", "451 Temporary failure"},
		{"error", "eve@forwardonly.example", "451 Temporary failure"},
		{"itself", "frank@forwardonly.example", temp},
		{"unknown", "nobody@forwardonly.example", "550 Invalid recipient"},
	}.run(t, s)
	delete(s.forwards, "alice")
	s.forwards["bob"] = "# empty\n"
	rows{
		{"no .forward", "alice@forwardonly.example", temp},
		{"empty .forward", "bob@forwardonly.example", temp},
	}.run(t, s)
}

func TestExpandExpandOnly(t *testing.T) {
	s := &scene{
		users:    []string{"alice", "bob", "carol"},
		forwards: map[string]string{"alice": "|/bin/prog, alice@remote.net", "carol": "carol"},
		aliases:  map[string]string{"sink": "/var/mail/sink"},
	}
	rows{
		{".forward", "alice@expandonly.example", "expandonly alice@expandonly.example user=alice command=/bin/prog\nrelay alice@remote.net"},
		{"alias", "sink@expandonly.example", "expandonly sink@expandonly.example user=_smtpd file=/var/mail/sink"},
		{"no .forward", "bob@expandonly.example", "524 5.2.4 Mailing list expansion problem"},
		{"itself", "carol@expandonly.example", "524 5.2.4 Mailing list expansion problem"},
	}.run(t, s)
}

// TestExpandBudget expands an alias of more addresses than one recipient may
// cost.
func TestExpandBudget(t *testing.T) {
	s := &scene{aliases: make(map[string]string)}
	grow := make([]string, 0, maxNodes+1)
	for i := range maxNodes + 1 {
		grow = append(grow, fmt.Sprintf("u%d@remote.net", i))
	}
	s.aliases["huge"] = strings.Join(grow, ",")
	rows{{"too many", "huge@alias.example", "424 4.2.4 Mailing list expansion problem"}}.run(t, s)
}

// TestExpandErrorText shows that the text of an error entry, which any user
// may write, cannot break the reply that it becomes.
func TestExpandErrorText(t *testing.T) {
	s := &scene{users: []string{"u"}, forwards: map[string]string{"u": "error:550 gr\u00fc\u00dfe\t" + strings.Repeat("x", 600)}}
	rows{{"tab", "u@alias.example", "424 4.2.4 Mailing list expansion problem"}}.run(t, s)
	s.forwards["u"] = "error:550 gr\u00fc\u00dfe " + strings.Repeat("x", 600)
	got := s.expand(t, "u@alias.example")
	if !strings.HasPrefix(got, "550 gr??e xxx") || len(got) > 200 {
		t.Errorf("reply of %d bytes: %q", len(got), got)
	}
}
