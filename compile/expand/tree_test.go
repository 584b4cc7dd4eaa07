package expand

import (
	"fmt"
	"strings"
	"testing"
)

// outline writes the tree below n, one node a line.
func outline(b *strings.Builder, n *Node, depth int) {
	fmt.Fprintf(b, "%s%v", strings.Repeat("  ", depth), n.Item)
	for _, q := range n.Questions {
		fmt.Fprintf(b, " ?%s=%s", q.Key, q.Value)
	}
	switch {
	case n.Delivery != nil:
		b.WriteString(" delivered")
	case n.Same != nil:
		b.WriteString(" same")
	case n.Err != nil:
		b.WriteString(" failed: " + n.Err.Error())
	case !n.Followed:
		b.WriteString(" not followed")
	}
	b.WriteByte('\n')
	for _, c := range n.Children {
		outline(b, c, depth+1)
	}
}

func TestTree(t *testing.T) {
	s := &scene{users: []string{"alice", "bob"}, aliases: map[string]string{
		"team": "alice, bob, alice, far@remote.net", "half": "nobody, bob",
	}}
	tests := []struct{ rcpt, want string }{
		{"team@alias.example", `team@alias.example
  team ?team=alice, bob, alice, far@remote.net
    alice ?alice= ?alice= ?alice= delivered
    bob ?bob= ?bob= ?bob= delivered
    alice same
    far@remote.net delivered
`},
		{"half@alias.example", `half@alias.example
  half ?half=nobody, bob
    nobody ?nobody= ?nobody= failed: 550 Invalid recipient: no user "nobody"
    bob not followed
`},
	}
	for _, tt := range tests {
		e := &Expansion{World: s, Rules: sceneRules(), Warn: func(string, ...any) {}, Keep: true}
		e.Run(t.Context(), parseAddress(tt.rcpt))
		var b strings.Builder
		outline(&b, e.Root, 0)
		if b.String() != tt.want {
			t.Errorf("%s:\n%swant:\n%s", tt.rcpt, &b, tt.want)
		}
	}
}

// TestLoopIsNamed has the operator told which names stand for each other.
func TestLoopIsNamed(t *testing.T) {
	s := &scene{
		aliases: map[string]string{"eve": "frank", "frank": "eve", "gil": "gil@alias.example"},
		virtual: map[string]string{"a@virtual.example": "b@virtual.example", "b@virtual.example": "a@virtual.example"},
	}
	for i := range maxDepth {
		s.aliases[fmt.Sprint("deep", i)] = fmt.Sprint("deep", i+1)
	}
	for rcpt, want := range map[string]string{
		"eve@alias.example":   "eve@alias.example expands to nothing but itself: eve -> frank -> eve",
		"gil@alias.example":   "gil@alias.example is 10 expansions deep: gil@alias.example -> gil -> gil@alias.example",
		"a@virtual.example":   "a@virtual.example is 10 expansions deep: a@virtual.example -> b@virtual.example -> a@virtual.example",
		"deep0@alias.example": "deep9 is 10 expansions deep: too many",
	} {
		e := &Expansion{World: s, Rules: sceneRules()}
		_, err := e.Run(t.Context(), parseAddress(rcpt))
		if got := ReplyListPerm + ": " + want; err == nil || err.Error() != got {
			t.Errorf("%s: %v, want %s", rcpt, err, got)
		}
	}
}

// TestOpen follows the nodes beside one that is not known, because they may
// settle the answer.
func TestOpen(t *testing.T) {
	s := &scene{users: []string{"alice"}, aliases: map[string]string{
		"maybe": "mystery, alice", "no": "mystery, nobody", "mystery": "UNKNOWN",
	}}
	for rcpt, want := range map[string]string{
		"maybe@alias.example": `424 4.2.4 Mailing list expansion problem: alias "mystery": not known here`,
		"no@alias.example":    `550 Invalid recipient: no user "nobody"`,
	} {
		e := &Expansion{World: s, Rules: sceneRules(), Keep: true}
		out, err := e.Run(t.Context(), parseAddress(rcpt))
		if out != nil || err == nil || err.Error() != want {
			t.Errorf("%s: %v, %v; want %s", rcpt, out, err, want)
		}
	}
}
