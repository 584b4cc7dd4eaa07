package expand

import (
	"fmt"
	"math/rand/v2"
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

// TestTreeIsWhole expands at random: whatever the aliases are, each delivery
// has its place in the tree, a refusal has one cause, and every node was
// followed, is as one met before, or stands behind the cause.
func TestTreeIsWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 3000 {
		s := &scene{users: []string{"u0", "u1", "u2", "root"}, aliases: make(map[string]string), forwards: make(map[string]string)}
		things := []string{"u0", "u1", "u2", "u3", "u0+t", "root", "u1@alias.example", "u4@alias.example", "x@remote.net", "|prog", "/file",
			"u2@plain.example", "y@rejected.example", "error:550 no"}
		some := func() string {
			var list []string
			for range r.IntN(4) {
				list = append(list, things[r.IntN(len(things)-r.IntN(8))])
			}
			return strings.Join(list, ", ")
		}
		for i := range 5 {
			if r.IntN(3) > 0 {
				s.aliases[fmt.Sprint("u", i)] = some()
			}
			if r.IntN(3) == 0 {
				s.forwards[fmt.Sprint("u", i)] = some()
			}
		}
		e := &Expansion{World: s, Rules: sceneRules(), Warn: func(string, ...any) {}, Keep: true}
		out, err := e.Run(t.Context(), parseAddress("u0@alias.example"))
		var deliveries, failed, skipped int
		walk(e.Root, func(n *Node) {
			switch {
			case n.Same != nil && (n.Followed || n.Children != nil), n.Err != nil && !n.Followed, n.Delivery != nil && n.Children != nil:
				t.Fatalf("%+v", n)
			case n.Err != nil:
				failed++
			case n.Same == nil && !n.Followed:
				skipped++
			}
			if n.Delivery != nil {
				deliveries++
			}
		})
		switch {
		case err == nil && (failed+skipped > 0 || deliveries != len(out) || deliveries == 0):
			t.Fatalf("%v: %d deliveries, %d failed, %d skipped", out, deliveries, failed, skipped)
		case err != nil && failed == 0 && (skipped > 0 || deliveries > 0 || !strings.HasPrefix(err.Error(), ReplyListPerm)):
			t.Fatalf("%v, and nothing failed", err)
		case failed > 1:
			t.Fatalf("%v: %d failed", err, failed)
		}
		if err != nil {
			refused++
		}
	}
	if refused < 300 || refused > 2700 {
		t.Errorf("%d refused", refused)
	}
}

func walk(n *Node, f func(*Node)) {
	f(n)
	for _, c := range n.Children {
		walk(c, f)
	}
}
