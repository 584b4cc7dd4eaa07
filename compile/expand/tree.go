package expand

import (
	"errors"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A Node is an item on its way to deliveries. What an expansion did at it is
// kept for those who ask for the tree (Expansion.Keep).
type Node struct {
	Item
	Parent *Node
	Depth  int

	Action   compile.ActionID // in force here: chosen by the nearest address
	Internal bool             // of an Address: it is not what the client gave
	owner    *Node            // of what a .forward holds: the user; nil for the rest

	sameUser  bool   // a user name that its parent has too
	real      bool   // a user name for which an account was found
	uid       uint32 // of the account
	forwarded bool   // its .forward was obeyed

	Encoded  *engine.Address  // of an Address that sender rewriting had made: as it was
	Decision *engine.Decision // of the rules about an Address
	Delivery *Delivery        // what it came to
	Same     *Node            // what is followed in its place: the same item, met before
	Followed bool             // false after a failure elsewhere, and with Same
	Err      error            // why it failed, or why that is not known

	// For Keep alone.
	Children  []*Node
	Questions []Question // what was asked about it, in order
}

// A Subject is what a Question is about.
type Subject uint8

// The subjects.
const (
	AliasOf   Subject = iota + 1 // the value of a key of Table
	AccountOf                    // the account of a user, in Table or the system
	ForwardOf                    // the .forward of a user
	ContentOf                    // the content of a file that an alias includes
)

// A Question is what a node asked the world, and the answer.
type Question struct {
	Subject Subject
	Table   compile.TableID // 0 for the system
	Key     string
	Value   string // of AliasOf
	Found   bool
	Err     error
}

func (e *Expansion) asked(n *Node, q Question) {
	if e.Keep {
		n.Questions = append(n.Questions, q)
	}
}

// nearest returns the nearest ancestor of kind k, n included.
func (n *Node) nearest(k Kind) *Node {
	for n != nil && n.Kind != k {
		n = n.Parent
	}
	return n
}

// Loop returns the way from an ancestor that is the same item to n, "eve ->
// frank -> eve", and "" if there is none.
func (n *Node) Loop() string {
	names := []string{n.Item.String()}
	for p := n.Parent; p != nil; p = p.Parent {
		names = append(names, p.Item.String())
		if p.Item == n.Item && n.Parent != p {
			slices.Reverse(names)
			return strings.Join(names, " -> ")
		}
	}
	return ""
}

// ErrUnknown is wrapped by the errors of a World that cannot know, not even
// that a lookup fails. Such a node is left open and the others are followed:
// the answer then is an ErrUnknown, or a refusal that holds whatever the
// node comes to.
var ErrUnknown = errors.New("not known here")
