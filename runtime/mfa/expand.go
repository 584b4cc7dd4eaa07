package mfa

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/lka"
	"smtpd/runtime/parent"
)

// A world answers what an expansion asks. An error means that it could not
// say.
type world interface {
	// decide evaluates the rules for dest, which internal says came out of
	// the expansion and not from the client.
	decide(ctx context.Context, dest envelope.Address, internal bool) engine.Decision
	// alias returns what a table of aliases has for a key in lower case.
	alias(ctx context.Context, t compile.TableID, key string) (value string, ok bool, err error)
	// user returns an account of a userbase, or of the system if t is 0.
	user(ctx context.Context, t compile.TableID, name string) (lka.UserInfo, bool, error)
	// forward returns the .forward of an account; at most maxForward bytes
	// of it matter. parent.ErrPermanent marks one that may never be used.
	forward(ctx context.Context, u lka.UserInfo) (text string, ok bool, err error)
	// include returns the text of a file that an alias includes.
	include(ctx context.Context, path string) (text string, ok bool, err error)
}

// Budgets of one recipient.
const (
	maxDepth        = 10
	maxForward      = 4096  // bytes of a .forward, exclusive
	maxForwardNodes = 100   // of one .forward, with those that led to it
	maxNodes        = 10000 // in all
)

// The replies to recipients that cannot be served (runtime.md 3.9).
const (
	replyInvalid   = "550 Invalid recipient"
	replyTemporary = "451 Temporary failure"
	replyListTemp  = "424 4.2.4 Mailing list expansion problem"
	replyListPerm  = "524 5.2.4 Mailing list expansion problem"
)

// A refusal is why a recipient is not accepted: what the client is told, and
// what the operator wants to know beside it.
type refusal struct {
	reply string
	cause error
}

func (r *refusal) Error() string { return r.reply + ": " + r.cause.Error() }
func (r *refusal) Unwrap() error { return r.cause }

func refuse(reply, format string, args ...any) error {
	return &refusal{reply, fmt.Errorf(format, args...)}
}

// A delivery is one thing that a recipient came to.
type delivery struct {
	action   compile.ActionID
	dest     envelope.Address // the last address on the way
	internal bool             // dest is not what the client gave
	execute  envelope.Execute
	exec     string
	user     string // "" for relay
	sub      string // sub-address
}

// A node is an item on its way to deliveries.
type node struct {
	item
	parent *node
	depth  int
	owner  *node // of what a .forward holds: the user; nil for the rest

	action    compile.ActionID // in force here: chosen by the nearest address
	internal  bool             // of an address
	sameUser  bool             // a user name that its parent has too
	real      bool             // a user name for which an account was found
	uid       uint32           // of the account
	forwarded bool             // its .forward was obeyed
}

// nearest returns the nearest ancestor of kind k, n included.
func (n *node) nearest(k itemKind) *node {
	for n != nil && n.kind != k {
		n = n.parent
	}
	return n
}

// A nodeKey says which nodes are the same: they are followed once.
type nodeKey struct {
	item
	sameUser      bool
	address, user *node // ancestors; user matters for commands and files only
}

// An expansion turns one recipient into deliveries, breadth first. The first
// node that fails fails the recipient.
type expansion struct {
	world
	rules     *compile.Ruleset
	aliasUser string                                           // the user that commands of aliases run as
	srs       func(envelope.Address) (envelope.Address, error) // nil: addresses are not decoded
	warn      func(msg string, args ...any)

	queue []*node
	seen  map[nodeKey]*node
	nodes int
	out   []delivery
}

// run returns what rcpt comes to, or a *refusal.
func (e *expansion) run(ctx context.Context, rcpt envelope.Address) ([]delivery, error) {
	if !isLocalPart(rcpt.User) || !isRcptDomain(rcpt.Domain) {
		return nil, refuse(replyInvalid, "recipient %q is no address", clip(rcpt.String()))
	}
	e.seen = make(map[nodeKey]*node)
	e.queue = []*node{{item: item{kind: itemAddress, addr: rcpt}}}
	for len(e.queue) > 0 {
		n := e.queue[0]
		e.queue = e.queue[1:]
		if err := e.step(ctx, n); err != nil {
			return nil, err
		}
	}
	if len(e.out) == 0 {
		return nil, refuse(replyListPerm, "%v expands to nothing", rcpt)
	}
	return e.out, nil
}

// isRcptDomain accepts what a client may give: a name or an address literal.
func isRcptDomain(s string) bool {
	if lit, ok := strings.CutPrefix(s, "["); ok {
		lit, ok = strings.CutSuffix(lit, "]")
		return ok && lit != "" && consists(lit, ".:")
	}
	return isDomain(s)
}

func (e *expansion) step(ctx context.Context, n *node) error {
	if n.depth >= maxDepth {
		return refuse(replyListPerm, "%v is %d expansions deep: a loop", n.item, n.depth)
	}
	switch n.kind {
	case itemAddress:
		return e.address(ctx, n)
	case itemUser:
		return e.userName(ctx, n)
	case itemCommand, itemFile:
		return e.execute(n)
	case itemError:
		return e.fail(n)
	}
	return nil // an include has been read where it was found
}

// address lets the rules decide.
func (e *expansion) address(ctx context.Context, n *node) error {
	n.internal = n.parent != nil
	if e.srs != nil && isSRS(n.addr.User) {
		switch decoded, err := e.srs(n.addr); {
		case err != nil:
			// It may be the address of a user here, whatever it looks like.
			e.warn("cannot decode SRS address", "address", n.addr.String(), "err", err)
		default:
			n.addr, n.internal = decoded, true
		}
	}
	d := e.decide(ctx, n.addr, n.internal)
	switch d.Outcome {
	case engine.Accept:
	case engine.TempFail:
		return refuse(replyTemporary, "rules for %v: %w", n.addr, d.Err)
	case engine.Reject:
		return refuse(replyInvalid, "a rule rejects %v", n.addr)
	default:
		return refuse(replyInvalid, "no rule matches %v", n.addr)
	}
	n.action = e.rules.Rules[d.Rule].Action
	action := e.rules.Action(n.action)
	switch {
	case action.Method == compile.Relay:
		e.deliver(n, delivery{})
		return nil
	case action.Virtual != 0:
		found, err := e.aliases(ctx, n, action.Virtual, virtualKeys(n.addr, e.rules.SMTP.SubAddrDelim))
		if err == nil && !found {
			err = refuse(replyListPerm, "no virtual entry for %v", n.addr)
		}
		return err
	}
	return e.add(n, nil, []item{{kind: itemUser, text: strings.ToLower(n.addr.User)}})
}

// userName follows aliases, then finds the account, then asks for its
// .forward.
func (e *expansion) userName(ctx context.Context, n *node) error {
	action := e.rules.Action(n.action)
	name, sub, _ := strings.Cut(n.text, string(e.rules.SMTP.SubAddrDelim))
	if found, err := e.userAliases(ctx, n, action); found || err != nil {
		return err
	}
	account, ok, err := e.user(ctx, action.Userbase, name)
	switch {
	case err != nil:
		return refuse(replyTemporary, "user %q: %w", name, err)
	case !ok:
		return refuse(replyInvalid, "no user %q", name)
	}
	n.real, n.uid = true, account.UID
	local := delivery{user: name, sub: cmp.Or(sub, inheritedSub(n, e.rules.SMTP.SubAddrDelim))}
	if n.sameUser && n.parent.forwarded || action.User != "" && action.User != name {
		return e.deliverUser(n, local)
	}
	return e.follow(ctx, n, account, local)
}

// userAliases adds what n is an alias for, and reports whether it is one. A
// name that stands in its own expansion is not followed again.
func (e *expansion) userAliases(ctx context.Context, n *node, action *compile.Action) (found bool, err error) {
	delim := e.rules.SMTP.SubAddrDelim
	switch {
	case n.sameUser:
		return false, nil
	case action.Alias != 0:
		return e.aliases(ctx, n, action.Alias, aliasKeys(n.text, delim))
	case action.Virtual != 0:
		return e.aliases(ctx, n, action.Virtual, virtualKeys(envelope.Address{User: n.text}, delim))
	}
	return false, nil
}

// inheritedSub returns the sub-address that alice+tag had before her .forward
// said alice: it is still her mail and still has that tag.
func inheritedSub(n *node, delim byte) string {
	if n.owner == nil || n.owner != n.parent {
		return ""
	}
	name, _, _ := strings.Cut(n.text, string(delim))
	above, sub, _ := strings.Cut(n.parent.text, string(delim))
	if above != name {
		return ""
	}
	return cmp.Or(sub, inheritedSub(n.parent, delim))
}

// follow obeys the .forward of an account, or delivers if there is none.
func (e *expansion) follow(ctx context.Context, n *node, account lka.UserInfo, local delivery) error {
	text, ok, err := e.forward(ctx, account)
	switch {
	case errors.Is(err, parent.ErrPermanent):
		return refuse(replyListPerm, ".forward of %s: %w", account.Name, err)
	case err != nil:
		return refuse(replyListTemp, ".forward of %s: %w", account.Name, err)
	case !ok:
		return e.deliverUser(n, local)
	case len(text) >= maxForward:
		return refuse(replyListTemp, ".forward of %s: more than %d bytes", account.Name, maxForward-1)
	}
	items, err := parseFile(text)
	switch {
	case err != nil:
		return refuse(replyListTemp, ".forward of %s: %w", account.Name, err)
	case len(items) == 0:
		return e.deliverUser(n, local)
	case n.depth+1+len(items) > maxForwardNodes:
		return refuse(replyListTemp, ".forward of %s: %d entries", account.Name, len(items))
	}
	n.forwarded = true
	return e.add(n, n, items)
}

// deliverUser delivers to an account by the action's own method, which
// forward-only and expand-only do not have.
func (e *expansion) deliverUser(n *node, d delivery) error {
	switch e.rules.Action(n.action).Method {
	case compile.ForwardOnly:
		return refuse(replyListTemp, "%s forwards nowhere and the action is forward-only", d.user)
	case compile.ExpandOnly:
		return refuse(replyListPerm, "%s expands to nothing and the action is expand-only", d.user)
	}
	e.deliver(n, d)
	return nil
}

// execute delivers to a command or a file.
func (e *expansion) execute(n *node) error {
	if n.parent.real && n.parent.uid == 0 {
		return refuse(replyTemporary, "%v in the expansion of the superuser", n.item)
	}
	if e.rules.Action(n.action).Method == compile.ForwardOnly {
		return refuse(replyTemporary, "%v and the action is forward-only", n.item)
	}
	d := delivery{execute: envelope.Command, exec: n.text, user: e.aliasUser}
	if n.kind == itemFile {
		d.execute = envelope.File
	}
	if n.owner != nil {
		d.user, _, _ = strings.Cut(n.owner.text, string(e.rules.SMTP.SubAddrDelim))
	} else if n.kind == itemCommand {
		e.warn("commands executed from aliases run with "+e.aliasUser+" privileges", "command", n.text)
	}
	e.deliver(n, d)
	return nil
}

// fail answers with the text of an error entry.
func (e *expansion) fail(n *node) error {
	if e.rules.Action(n.action).Method == compile.ForwardOnly {
		return refuse(replyTemporary, "%v and the action is forward-only", n.item)
	}
	return refuse(replyLine(n.text), "an error entry says so")
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
func (e *expansion) deliver(n *node, d delivery) {
	at := n.nearest(itemAddress)
	d.action, d.dest, d.internal = at.action, at.addr, at.internal
	e.out = append(e.out, d)
}

// aliases adds the items of the first key that t has, and reports whether
// there was one. An entry whose includes are missing and which has nothing
// else is as good as none.
func (e *expansion) aliases(ctx context.Context, n *node, t compile.TableID, keys []string) (found bool, err error) {
	for _, key := range keys {
		value, ok, err := e.alias(ctx, t, key)
		if err != nil {
			return false, refuse(replyListTemp, "alias %q: %w", key, err)
		}
		if !ok {
			continue
		}
		items, err := e.included(ctx, value)
		if err != nil {
			return false, refuse(replyListTemp, "alias %q: %w", key, err)
		}
		return len(items) > 0, e.add(n, nil, items)
	}
	return false, nil
}

// included returns the items of an alias, with those of included files in
// the place of the includes.
func (e *expansion) included(ctx context.Context, value string) ([]item, error) {
	list, err := parseList(value)
	if err != nil {
		return nil, err
	}
	var items []item
	for _, it := range list {
		if it.kind != itemInclude {
			items = append(items, it)
			continue
		}
		text, ok, err := e.include(ctx, it.text)
		if err != nil {
			return nil, err
		}
		if !ok {
			e.warn("file included by an alias is missing", "path", it.text)
		}
		more, err := parseFile(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", it.text, err)
		}
		items = append(items, more...)
	}
	return items, nil
}

// add queues items as children of n, each only once. owner is the user whose
// .forward they stand in.
func (e *expansion) add(n, owner *node, items []item) error {
	for _, it := range items {
		c := &node{item: it, parent: n, depth: n.depth + 1, owner: owner, action: n.action}
		if it.kind == itemUser {
			c.sameUser = n.kind == itemUser && n.text == it.text
		}
		key := nodeKey{item: it, sameUser: c.sameUser, address: n.nearest(itemAddress)}
		if it.kind == itemCommand || it.kind == itemFile {
			key.user = n.nearest(itemUser)
		}
		// A user whose account was found has been dealt with: the same name
		// met later is followed anew, until depth ends a loop.
		if old, ok := e.seen[key]; ok && !old.real {
			continue
		}
		e.seen[key] = c
		if e.nodes++; e.nodes > maxNodes {
			return refuse(replyListTemp, "more than %d expansions", maxNodes)
		}
		e.queue = append(e.queue, c)
	}
	return nil
}

// aliasKeys returns what to ask a table of aliases for user, in order.
func aliasKeys(user string, delim byte) []string {
	user = strings.ToLower(user)
	if name, _, ok := strings.Cut(user, string(delim)); ok {
		return []string{user, name}
	}
	return []string{user}
}

// virtualKeys returns what to ask a virtual table for an address, in order.
// A user name that came out of such a table has no domain, and no catch-all
// holds for it: that was tried when its address was looked up.
func virtualKeys(a envelope.Address, delim byte) []string {
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
