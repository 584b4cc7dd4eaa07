package expand

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A World answers what an expansion asks. An error means that it could not
// say.
type World interface {
	// Decide evaluates the rules for dest, which internal says came out of
	// the expansion and not from the client.
	Decide(ctx context.Context, dest engine.Address, internal bool) engine.Decision
	// Alias returns what a table of aliases has for a key in lower case.
	Alias(ctx context.Context, t compile.TableID, key string) (value string, ok bool, err error)
	// User returns an account of a userbase, or of the system if t is 0.
	User(ctx context.Context, t compile.TableID, name string) (Account, bool, error)
	// Forward returns the .forward of an account; at most MaxForward bytes
	// of it matter. ErrForbidden marks one that may never be used.
	Forward(ctx context.Context, a Account) (text string, ok bool, err error)
	// Include returns the text of a file that an alias includes.
	Include(ctx context.Context, path string) (text string, ok bool, err error)
}

// ErrForbidden is wrapped by the error for a .forward that may never be used.
var ErrForbidden = errors.New("may not be used")

// Budgets of one recipient.
const (
	MaxForward      = 4096 // bytes of a .forward, exclusive
	maxDepth        = 10
	maxForwardNodes = 100   // of one .forward, with those that led to it
	maxNodes        = 10000 // in all
)

// The replies to recipients: to one that is served, and to those that cannot
// be (runtime.md 3.9).
const (
	ReplyAccepted  = "250 2.1.5 Destination address valid: Recipient ok"
	ReplyInvalid   = "550 Invalid recipient"
	ReplyTemporary = "451 Temporary failure"
	ReplyListTemp  = "424 4.2.4 Mailing list expansion problem"
	ReplyListPerm  = "524 5.2.4 Mailing list expansion problem"
)

// A Refusal is why a recipient is not accepted: what the client is told, and
// what the operator wants to know beside it.
type Refusal struct {
	Reply string
	Cause error
}

func (r *Refusal) Error() string { return r.Reply + ": " + r.Cause.Error() }
func (r *Refusal) Unwrap() error { return r.Cause }

// Refuse returns a *Refusal.
func Refuse(reply, format string, args ...any) error {
	return &Refusal{reply, fmt.Errorf(format, args...)}
}

// An Execute says what a local delivery runs when it is not the action's own
// method.
type Execute uint8

// What a local delivery runs.
const (
	ByAction  Execute = iota // the action's method
	ByCommand                // a command of an alias or .forward
	ByFile                   // an mbox file of an alias or .forward
)

// A Delivery is one thing that a recipient came to.
type Delivery struct {
	Action   compile.ActionID
	Dest     engine.Address // the last address on the way
	Internal bool           // Dest is not what the client gave
	Execute  Execute
	Exec     string // the command or the path
	User     string // "" for relay
	Sub      string // sub-address
}

// A nodeKey says which nodes are the same: they are followed once.
type nodeKey struct {
	Item
	sameUser      bool
	address, user *Node // ancestors; user matters for commands and files only
}

// An Expansion turns one recipient into deliveries, breadth first. The first
// node that fails fails the recipient. It serves for one Run.
type Expansion struct {
	World       World
	Rules       *compile.Ruleset
	CommandUser string                                       // the user that commands of aliases run as
	SRS         func(engine.Address) (engine.Address, error) // nil: addresses are not decoded
	Warn        func(msg string, args ...any)
	Keep        bool // the tree

	Root *Node // with Keep

	queue []*Node
	seen  map[nodeKey]*Node
	nodes int
	loop  string // the first that ended
	out   []Delivery
}

// Run returns what rcpt comes to. The error is a *Refusal.
func (e *Expansion) Run(ctx context.Context, rcpt engine.Address) ([]Delivery, error) {
	if !isRcptUser(rcpt.User) || !isRcptDomain(rcpt.Domain) {
		return nil, Refuse(ReplyInvalid, "recipient %q is no address", clip(rcpt.String()))
	}
	e.seen = make(map[nodeKey]*Node)
	root := &Node{Item: Item{Kind: Address, Addr: rcpt}}
	if e.Keep {
		e.Root = root
	}
	e.queue = []*Node{root}
	var open error
	for len(e.queue) > 0 {
		n := e.queue[0]
		e.queue = e.queue[1:]
		n.Followed = true
		n.Err = e.step(ctx, n)
		switch {
		case n.Err == nil:
		case !errors.Is(n.Err, ErrUnknown):
			return nil, n.Err
		case open == nil:
			open = n.Err
		}
	}
	switch {
	case open != nil:
		return nil, open
	case len(e.out) == 0 && e.loop != "":
		return nil, Refuse(ReplyListPerm, "%v expands to nothing but itself: %s", rcpt, e.loop)
	case len(e.out) == 0:
		return nil, Refuse(ReplyListPerm, "%v expands to nothing", rcpt)
	}
	return e.out, nil
}

// isRcptDomain accepts what a client may give: a name or an address literal.
func isRcptDomain(s string) bool {
	if lit, ok := strings.CutPrefix(s, "["); ok {
		lit, ok = strings.CutSuffix(lit, "]")
		return ok && lit != "" && consists(lit, ".:")
	}
	return IsDomain(s)
}

func (e *Expansion) step(ctx context.Context, n *Node) error {
	if n.Depth >= maxDepth {
		return Refuse(ReplyListPerm, "%v is %d expansions deep: %s", n.Item, n.Depth, cmp.Or(n.Loop(), "too many"))
	}
	switch n.Kind {
	case Address:
		return e.address(ctx, n)
	case User:
		return e.userName(ctx, n)
	case Command, File:
		return e.execute(n)
	case Error:
		return e.fail(n)
	}
	return nil // an include has been read where it was found
}

// address lets the rules decide.
func (e *Expansion) address(ctx context.Context, n *Node) error {
	n.Internal = n.Parent != nil
	if e.SRS != nil && isSRS(n.Addr.User) {
		switch decoded, err := e.SRS(n.Addr); {
		case err != nil:
			// It may be the address of a user here, whatever it looks like.
			e.Warn("cannot decode SRS address", "address", n.Addr.String(), "err", err)
		default:
			encoded := n.Addr
			n.Encoded = &encoded
			n.Addr, n.Internal = decoded, true
		}
	}
	d := e.World.Decide(ctx, ForRules(n.Addr, e.Rules.SMTP.SubAddrDelim), n.Internal)
	n.Decision = &d
	switch d.Outcome {
	case engine.Accept:
	case engine.TempFail:
		return Refuse(ReplyTemporary, "rules for %v: %w", n.Addr, d.Err)
	case engine.Reject:
		return Refuse(ReplyInvalid, "a rule rejects %v", n.Addr)
	default:
		return Refuse(ReplyInvalid, "no rule matches %v", n.Addr)
	}
	n.Action = e.Rules.Rules[d.Rule].Action
	action := e.Rules.Action(n.Action)
	switch {
	case action.Method == compile.Relay:
		e.deliver(n, Delivery{})
		return nil
	case action.Virtual != 0:
		found, err := e.aliases(ctx, n, action.Virtual, virtualKeys(n.Addr, e.Rules.SMTP.SubAddrDelim))
		if err == nil && !found {
			err = Refuse(ReplyListPerm, "no virtual entry for %v", n.Addr)
		}
		return err
	}
	return e.add(n, nil, []Item{{Kind: User, Text: strings.ToLower(n.Addr.User)}})
}

// userName follows aliases, then finds the account, then asks for its
// .forward.
func (e *Expansion) userName(ctx context.Context, n *Node) error {
	action := e.Rules.Action(n.Action)
	name, sub := SplitUser(n.Text, e.Rules.SMTP.SubAddrDelim)
	if found, err := e.userAliases(ctx, n, action); found || err != nil {
		return err
	}
	account, ok, err := e.World.User(ctx, action.Userbase, name)
	e.asked(n, Question{Subject: AccountOf, Table: action.Userbase, Key: name, Found: ok, Err: err})
	switch {
	case err != nil:
		return Refuse(ReplyTemporary, "user %q: %w", name, err)
	case !ok:
		return Refuse(ReplyInvalid, "no user %q", name)
	}
	n.real, n.uid = true, account.UID
	local := Delivery{User: name, Sub: cmp.Or(sub, inheritedSub(n, e.Rules.SMTP.SubAddrDelim))}
	if n.sameUser && n.Parent.forwarded || action.User != "" && action.User != name {
		return e.deliverUser(n, local)
	}
	return e.follow(ctx, n, account, local)
}

// userAliases adds what n is an alias for, and reports whether it is one. A
// name that stands in its own expansion is not followed again.
func (e *Expansion) userAliases(ctx context.Context, n *Node, action *compile.Action) (found bool, err error) {
	delim := e.Rules.SMTP.SubAddrDelim
	switch {
	case n.sameUser:
		return false, nil
	case action.Alias != 0:
		return e.aliases(ctx, n, action.Alias, aliasKeys(n.Text, delim))
	case action.Virtual != 0:
		return e.aliases(ctx, n, action.Virtual, virtualKeys(engine.Address{User: n.Text}, delim))
	}
	return false, nil
}

// inheritedSub returns the sub-address that alice+tag had before her .forward
// said alice: it is still her mail and still has that tag.
func inheritedSub(n *Node, delim byte) string {
	if n.owner == nil || n.owner != n.Parent {
		return ""
	}
	name, _ := SplitUser(n.Text, delim)
	above, sub := SplitUser(n.Parent.Text, delim)
	if above != name {
		return ""
	}
	return cmp.Or(sub, inheritedSub(n.Parent, delim))
}

// follow obeys the .forward of an account, or delivers if there is none.
func (e *Expansion) follow(ctx context.Context, n *Node, account Account, local Delivery) error {
	text, ok, err := e.World.Forward(ctx, account)
	e.asked(n, Question{Subject: ForwardOf, Key: account.Name, Value: text, Found: ok, Err: err})
	switch {
	case errors.Is(err, ErrForbidden):
		return Refuse(ReplyListPerm, ".forward of %s: %w", account.Name, err)
	case err != nil:
		return Refuse(ReplyListTemp, ".forward of %s: %w", account.Name, err)
	case !ok:
		return e.deliverUser(n, local)
	case len(text) >= MaxForward:
		return Refuse(ReplyListTemp, ".forward of %s: more than %d bytes", account.Name, MaxForward-1)
	}
	items, err := parseFile(text)
	switch {
	case err != nil:
		return Refuse(ReplyListTemp, ".forward of %s: %w", account.Name, err)
	case len(items) == 0:
		return e.deliverUser(n, local)
	case n.Depth+1+len(items) > maxForwardNodes:
		return Refuse(ReplyListTemp, ".forward of %s: %d entries", account.Name, len(items))
	}
	n.forwarded = true
	return e.add(n, n, items)
}

// deliverUser delivers to an account by the action's own method, which
// forward-only and expand-only do not have.
func (e *Expansion) deliverUser(n *Node, d Delivery) error {
	switch e.Rules.Action(n.Action).Method {
	case compile.ForwardOnly:
		return Refuse(ReplyListTemp, "%s forwards nowhere and the action is forward-only", d.User)
	case compile.ExpandOnly:
		return Refuse(ReplyListPerm, "%s expands to nothing and the action is expand-only", d.User)
	}
	e.deliver(n, d)
	return nil
}

// execute delivers to a command or a file.
func (e *Expansion) execute(n *Node) error {
	if n.Parent.real && n.Parent.uid == 0 {
		return Refuse(ReplyTemporary, "%v in the expansion of the superuser", n.Item)
	}
	if e.Rules.Action(n.Action).Method == compile.ForwardOnly {
		return Refuse(ReplyTemporary, "%v and the action is forward-only", n.Item)
	}
	d := Delivery{Execute: ByCommand, Exec: n.Text, User: e.CommandUser}
	if n.Kind == File {
		d.Execute = ByFile
	}
	if n.owner != nil {
		d.User, _ = SplitUser(n.owner.Text, e.Rules.SMTP.SubAddrDelim)
	} else if n.Kind == Command {
		e.Warn("commands executed from aliases run with "+e.CommandUser+" privileges", "command", n.Text)
	}
	e.deliver(n, d)
	return nil
}

// fail answers with the text of an error entry.
func (e *Expansion) fail(n *Node) error {
	if e.Rules.Action(n.Action).Method == compile.ForwardOnly {
		return Refuse(ReplyTemporary, "%v and the action is forward-only", n.Item)
	}
	return Refuse(replyLine(n.Text), "an error entry says so")
}

// replyLine makes a text that an alias gave fit for a reply: printable ASCII
// and no longer than RFC 5321, section 4.5.3.1.5 lets a line be, with room
// for the address that follows.
func replyLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}

// deliver completes d with what n's way says and keeps it.
func (e *Expansion) deliver(n *Node, d Delivery) {
	at := n.nearest(Address)
	d.Action, d.Dest, d.Internal = at.Action, at.Addr, at.Internal
	n.Delivery = &d
	e.out = append(e.out, d)
}

// aliases adds the items of the first key that t has, and reports whether
// there was one. An entry whose includes are missing and which has nothing
// else is as good as none.
func (e *Expansion) aliases(ctx context.Context, n *Node, t compile.TableID, keys []string) (found bool, err error) {
	for _, key := range keys {
		value, ok, err := e.World.Alias(ctx, t, key)
		e.asked(n, Question{Subject: AliasOf, Table: t, Key: key, Value: value, Found: ok, Err: err})
		if err != nil {
			return false, Refuse(ReplyListTemp, "alias %q: %w", key, err)
		}
		if !ok {
			continue
		}
		items, err := e.included(ctx, n, value)
		if err != nil {
			return false, Refuse(ReplyListTemp, "alias %q: %w", key, err)
		}
		return len(items) > 0, e.add(n, nil, items)
	}
	return false, nil
}

// included returns the items of an alias, with those of included files in
// the place of the includes.
func (e *Expansion) included(ctx context.Context, n *Node, value string) ([]Item, error) {
	list, err := parseList(value)
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, it := range list {
		if it.Kind != Include {
			items = append(items, it)
			continue
		}
		text, ok, err := e.World.Include(ctx, it.Text)
		e.asked(n, Question{Subject: ContentOf, Key: it.Text, Found: ok, Err: err})
		if err != nil {
			return nil, err
		}
		if !ok {
			e.Warn("file included by an alias is missing", "path", it.Text)
		}
		more, err := parseFile(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", it.Text, err)
		}
		items = append(items, more...)
	}
	return items, nil
}

// add queues items as children of n, each only once. owner is the user whose
// .forward they stand in.
func (e *Expansion) add(n, owner *Node, items []Item) error {
	for _, it := range items {
		c := &Node{Item: it, Parent: n, Depth: n.Depth + 1, owner: owner, Action: n.Action}
		if it.Kind == User {
			c.sameUser = n.Kind == User && n.Text == it.Text
		}
		key := nodeKey{Item: it, sameUser: c.sameUser, address: n.nearest(Address)}
		if it.Kind == Command || it.Kind == File {
			key.user = n.nearest(User)
		}
		if e.Keep {
			n.Children = append(n.Children, c)
		}
		// A user whose account was found has been dealt with: the same name
		// met later is followed anew, until depth ends a loop.
		if old, ok := e.seen[key]; ok && !old.real {
			c.Same = old
			e.loop = cmp.Or(e.loop, c.Loop())
			continue
		}
		e.seen[key] = c
		if e.nodes++; e.nodes > maxNodes {
			return Refuse(ReplyListTemp, "more than %d expansions", maxNodes)
		}
		e.queue = append(e.queue, c)
	}
	return nil
}

// aliasKeys returns what to ask a table of aliases for user, in order.
func aliasKeys(user string, delim byte) []string {
	user = strings.ToLower(user)
	if name, _ := SplitUser(user, delim); name != user {
		return []string{user, name}
	}
	return []string{user}
}

// virtualKeys returns what to ask a virtual table for an address, in order.
// A user name that came out of such a table has no domain, and no catch-all
// holds for it: that was tried when its address was looked up.
func virtualKeys(a engine.Address, delim byte) []string {
	users := aliasKeys(a.User, delim)
	domain := strings.ToLower(a.Domain)
	var keys []string
	for _, u := range users {
		keys = append(keys, u+"@"+domain)
	}
	keys = append(keys, users...)
	if domain != "" {
		keys = append(keys, "@"+domain, "@")
	}
	return keys
}
