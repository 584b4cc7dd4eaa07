package migrate

import (
	"fmt"
	"strings"

	"smtpd/ast/old"
)

// names gives actions names that say what they do. Actions that do the same
// are one.
type names struct {
	byText map[string]string // name by definition
	taken  map[string]bool
}

func newNames() names {
	return names{make(map[string]string), make(map[string]bool)}
}

// action returns the name of an action whose definition is text, and whether
// it is new.
func (n *names) action(text string, r *old.Rule) (name string, isNew bool) {
	if name, ok := n.byText[text]; ok {
		return name, false
	}
	for name = range candidates(r) {
		if !n.taken[name] {
			break
		}
	}
	n.taken[name] = true
	n.byText[text] = name
	return name, true
}

// candidates yields names for the action of a rule, the shortest first, and
// never ends.
func candidates(r *old.Rule) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		name := method(r)
		if !yield(name) {
			return
		}
		for _, more := range []string{portOf(r), users(r), domainOf(r)} {
			if more == "" {
				continue
			}
			name += "-" + more
			if !yield(name) {
				return
			}
		}
		for i := 2; yield(fmt.Sprintf("%s-%d", name, i)); i++ {
		}
	}
}

// method names what is done with the mail.
func method(r *old.Rule) string {
	switch {
	case r.ForwardOnly:
		return "forward"
	case r.Action == nil:
		return "expand"
	}
	switch a := r.Action; a.Method {
	case old.MBox:
		return "mbox"
	case old.Maildir:
		return "maildir"
	case old.MDA:
		return "mda"
	case old.LMTP:
		return "lmtp"
	case old.RelayBackup:
		return "backup"
	case old.RelayVia:
		if host := tidy(parseURL(a.Arg.Text).host); host != "" {
			return "relay-" + host
		}
	}
	return "relay"
}

// portOf names the port of the host that mail is relayed to.
func portOf(r *old.Rule) string {
	if r.Action == nil || r.Action.Method != old.RelayVia {
		return ""
	}
	if r.Action.Port != nil {
		return tidy(r.Action.Port.Text)
	}
	return strings.TrimPrefix(parseURL(r.Action.Arg.Text).port, ":")
}

// users names where the users are found, or who gets the mail.
func users(r *old.Rule) string {
	var words []string
	for _, t := range []*old.TableArg{r.Alias, r.Virtual, r.Userbase} {
		if t != nil && t.Ref != nil {
			words = append(words, tidy(t.Ref.Text))
		}
	}
	if len(words) > 1 {
		words = words[:1]
	}
	if len(words) == 0 && r.Action != nil && r.Action.User != nil {
		words = append(words, tidy(r.Action.User.Text))
	}
	return strings.Join(words, "-")
}

// domainOf names where the mail goes.
func domainOf(r *old.Rule) string {
	if len(r.For) != 1 || r.For[0].Not {
		return ""
	}
	switch d := r.For[0].Domain; {
	case d == nil && r.For[0].Any:
		return "any"
	case d == nil:
		return "local"
	case d.Ref != nil:
		return tidy(d.Ref.Text)
	case len(d.Elems) == 1:
		return tidy(d.Elems[0].Key.Text)
	}
	return ""
}

// tidy leaves of text what reads well in a name.
func tidy(text string) string {
	var b strings.Builder
	for i := 0; i < len(text) && b.Len() < 40; i++ {
		if ch := text[i]; isAlnum(ch) || ch == '.' || ch == '-' || ch == '_' {
			b.WriteByte(ch)
		}
	}
	return strings.Trim(b.String(), ".-")
}
