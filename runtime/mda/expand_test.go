package mda

import (
	"path/filepath"
	"strings"
	"testing"

	"smtpd/runtime/envelope"
	"smtpd/runtime/parent"
)

func testFields() *fields {
	return &fields{
		sender: envelope.Address{User: "Bob", Domain: "Example.NET"}, rcpt: envelope.Address{User: "alice+lists", Domain: "example.org"},
		dest: envelope.Address{User: "alice", Domain: "mail.example.org"}, username: "alice", directory: "/home/al ice",
		delimiter: '+',
	}
}

func TestExpand(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"plain text":                        "plain text",
		"%{sender}|%{rcpt}|%{dest}":         "Bob@Example.NET|alice+lists@example.org|alice@mail.example.org",
		"%{sender.user} %{sender.domain}":   "Bob Example.NET",
		"%{rcpt.user} %{rcpt.domain}":       "alice+lists example.org",
		"%{dest.user} %{dest.domain}":       "alice mail.example.org",
		"%{user.username}":                  "alice",
		"%{user.directory}":                 "/home/al ice",
		"%{mbox.from}":                      "Bob@Example.NET",
		"%{SENDER.User}":                    "Bob",
		"~/Maildir":                         "/home/al ice/Maildir",
		"~":                                 "~",
		"x~/Maildir":                        "x~/Maildir",
		"100%% %":                           "100% %",
		"%d %{sender.user}":                 "%d Bob",
		"%%{sender}":                        "%{sender}",
		"%{sender:lowercase}":               "bob@example.net",
		"%{sender:UPPERCASE}":               "BOB@EXAMPLE.NET",
		"%{rcpt:strip}":                     "alice@example.org",
		"%{rcpt.user:strip}":                "alice",
		"%{dest:strip}":                     "alice@mail.example.org",
		"%{rcpt:strip|uppercase}":           "ALICE@EXAMPLE.ORG",
		"%{sender:raw}":                     "Bob@Example.NET",
		"%{dest.user[0]}":                   "a",
		"%{dest.user[1]}":                   "l",
		"%{dest.user[4]}":                   "e",
		"%{dest.user[0:1]}":                 "al",
		"%{dest.user[1:]}":                  "lice",
		"%{dest.user[:2]}":                  "ali",
		"%{dest.user[:]}":                   "alice",
		"%{dest.user[2:99]}":                "ice",
		"%{dest.user[-1:]}":                 "e",
		"%{dest.user[-3:-1]}":               "ic",
		"%{dest.user[:-1]}":                 "alic",
		"%{dest.user[-5:]}":                 "alice",
		"/m/%{dest.user[0]}/%{dest.user}/x": "/m/a/alice/x",
		"unclosed %{sender":                 "unclosed %{sender",
		"%{sender} and %{sender":            "%{sender} and %{sender",
		"~/%{sender":                        "~/%{sender",
		"%{" + strings.Repeat("x", 128) + "} %{sender}": "%{" + strings.Repeat("x", 128) + "} %{sender}",
		"../%{dest.user}": "../alice",
	} {
		got, err := testFields().expand(text)
		if err != nil || got != want {
			t.Errorf("expand(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestExpandErrors(t *testing.T) {
	for _, text := range []string{
		"%{}", "%{nothing}", "%{mda}", "%{sender.}", "%{ sender}",
		"%{sender:}", "%{sender:upper}", "%{sender:raw,lowercase}", "%{sender:raw|}",
		"%{dest.user[]}", "%{dest.user[x]}", "%{dest.user[1:x]}", "%{dest.user[1:2:3]}", "%{dest.user[1}",
		"%{dest.user[5]}", "%{dest.user[5:]}", "%{dest.user[3:1]}", "%{dest.user[-1]}", "%{dest.user[-6:]}",
		"%{dest.user[0]:lowercase}", "%{dest.user:lowercase[0]}", "%{dest.user[9999]}",
		strings.Repeat("x", 1024), strings.Repeat("x", 1020) + "%{dest.user}",
	} {
		if got, err := testFields().expand(text); err == nil {
			t.Errorf("expand(%.40q) = %q, want an error", text, got)
		}
	}
}

func TestExpandNullSender(t *testing.T) {
	f := testFields()
	f.sender = envelope.Address{}
	for text, want := range map[string]string{
		"<%{sender}>": "<>", "<%{sender[3:1]}>": "<>", "%{mbox.from}": "MAILER-DAEMON", "<%{sender:strip}>": "<>",
	} {
		if got, err := f.expand(text); err != nil || got != want {
			t.Errorf("expand(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
}

// TestExpandStripQuoted checks that strip takes the tag of a quoted local part
// and nothing of the domain, whatever the tag holds.
func TestExpandStripQuoted(t *testing.T) {
	f := testFields()
	for user, want := range map[string]string{
		`"a b+x y"`: ":a:b:@example.org", `"ab+x y"`: "ab@example.org", `"a b+x@evil.example"`: ":a:b:@example.org",
		`"a@b c"`: ":a@b:c:@example.org",
	} {
		f.rcpt.User = user
		whole, err := f.expand("%{rcpt:strip}")
		part, perr := f.expand("%{rcpt.user:strip}")
		if err != nil || perr != nil || whole != want || part+"@example.org" != want {
			t.Errorf("%s became %s, %v, and %s, %v; want %s", user, whole, err, part, perr, want)
		}
	}
}

func TestExpandWrapper(t *testing.T) {
	f := testFields()
	f.wrapper, f.command = true, `procmail -a "$EXTENSION" ~/x`
	if got, err := f.expand("nice %{mda} # %{dest.user}"); err != nil || got != `nice procmail -a "$EXTENSION" ~/x # alice` {
		t.Errorf("wrapper became %q, %v", got, err)
	}
}

// nasty are local parts that somebody tried, or will.
var nasty = []string{
	"; touch /tmp/pwned", "`id`", "$(id)", "|id", "&id", "a\nid\n", "a\x00b", `"a b"`, `"\"; id; \""`, `'; id; '`, `\`, `a\`,
	"> /etc/passwd", "<x", "(id)", "#", "*", "?", "[a-z]", "{a,b}", "~root", "!!", "%{user.directory}", "%s",
	"..", ".", "../../etc/passwd", "/etc/passwd", "./x", "...", "a/../../b", "-oQ/tmp", "--help", "-", "é", "\xff\xfe", "ünï", "a\tb", "",
	`"x> BODY=7BIT"`, `"a\"; id; \""`, `"../../x"`, `"you+$(id)"`, "日本", strings.Repeat("é", 120), strings.Repeat(".", 250),
}

// TestExpandInjection puts hostile addresses wherever a configuration may use
// a value and checks the exact outcome of the interesting ones.
func TestExpandInjection(t *testing.T) {
	for _, c := range []struct{ text, user, want string }{
		{"cmd %{rcpt.user}", "; touch /tmp/pwned", "cmd ::touch::tmp:pwned"},
		{"cmd %{rcpt.user:raw}", "$(id)", "cmd ::id:"},
		{"cmd '%{rcpt.user:raw}'", "'; id; '", "cmd '::::id::::'"[:len("cmd '::")] + ":id:::'"},
		{"cmd -a %{rcpt.user}", "-oQ/tmp", "cmd -a :oQ:tmp"},
		{"cmd --to=%{rcpt.user}", "--x", "cmd --to=:-x"},
		{"/m/%{rcpt.user}/x", "../../etc", "/m/:::..:etc/x"},
		{"/m/%{rcpt.user}/x", "..", "/m/::/x"},
		{"/m/.%{rcpt.user}/x", ".", "/m/.:/x"},
		{"/m/%{rcpt.user}", "/etc/passwd", "/m/:etc:passwd"},
		{"/m/x%{rcpt.user}", "..", "/m/x.."},
		{"/m/%{rcpt.user}.%{rcpt.user}", "a.", "/m/a..a."},
		{"/m/%{rcpt.user}", "é", "/m/::"},
	} {
		f := testFields()
		f.rcpt.User = c.user
		if got, err := f.expand(c.text); err != nil || got != c.want {
			t.Errorf("expand(%q) with %q = %q, %v, want %q", c.text, c.user, got, err, c.want)
		}
	}
	t.Run("values that join to a parent directory", func(t *testing.T) {
		f := testFields()
		f.sender = envelope.Address{}
		if got, err := f.expand("/m/.%{sender}./x"); err == nil {
			t.Errorf("became %q", got)
		}
	})
}

// FuzzExpand checks that no address leaves the directory that a path names,
// adds a word to a command, or puts a byte into either that a shell reads.
func FuzzExpand(f *testing.F) {
	for _, user := range nasty {
		f.Add(user, "example.org", ":raw")
		f.Add("alice", user, "[0:3]")
	}
	f.Fuzz(func(t *testing.T, user, domain, how string) {
		if strings.ContainsAny(how, "{}%") {
			return
		}
		v := testFields()
		a := envelope.Address{User: user, Domain: domain}
		v.sender, v.rcpt, v.dest, v.username = a, a, a, user
		for _, name := range []string{"sender", "rcpt.user", "dest.domain", "user.username", "mbox.from"} {
			spec := "%{" + name + how + "}"
			path, err := v.expand("/base/" + spec + "/" + spec + spec + "/." + spec + ".d/" + spec)
			if err == nil && !strings.HasPrefix(filepath.Clean(path)+"/", "/base/") {
				t.Fatalf("%q, %q: %s leaves its directory: %s", user, domain, spec, path)
			}
			command, err := v.expand("cmd " + spec)
			if err != nil || command == "cmd "+spec { // an error, or a text used as it is
				continue
			}
			word := strings.TrimPrefix(command, "cmd ")
			for i := 0; i < len(word); i++ {
				if !parent.Plain(word[i]) {
					t.Fatalf("%q, %q: %s put %q into a command", user, domain, spec, word)
				}
			}
			if strings.HasPrefix(word, "-") || strings.HasPrefix(word, ".") {
				t.Fatalf("%q, %q: %s made an option or a path: %q", user, domain, spec, word)
			}
		}
	})
}
