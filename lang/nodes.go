package lang

import "smtpd/ast"

// nodes allocates the nodes that a large configuration has many of, a chunk
// at a time: a tree of two hundred thousand rules is two million nodes.
type nodes struct {
	strs            slab[ast.Str]
	stmts           slab[ast.Stmt]
	tableArgs       slab[ast.TableArg]
	actions         slab[ast.Action]
	relays          slab[ast.Relay]
	relayOptionSlab slab[ast.RelayOption]
	matches         slab[ast.Match]
	criterionSlab   slab[ast.Criterion]
	patterns        slab[ast.Pattern]
	froms           slab[ast.From]
	fors            slab[ast.For]
	elemSlab        slab[ast.Elem]

	relayOptions list[ast.RelayOption]
	criteria     list[ast.Criterion]
	elems        list[ast.Elem]
}

// forget drops what a statement that failed left in the lists.
func (n *nodes) forget() {
	n.relayOptions.nodes = n.relayOptions.nodes[:0]
	n.criteria.nodes = n.criteria.nodes[:0]
	n.elems.nodes = n.elems.nodes[:0]
}

// A slab hands out zero values from chunks, the first of them small because
// most files are.
type slab[T any] struct {
	free []T
	size int
}

func (s *slab[T]) new() *T {
	if len(s.free) == 0 {
		s.size = min(max(8, 2*s.size), 512)
		s.free = make([]T, s.size)
	}
	p := &s.free[0]
	s.free = s.free[1:]
	return p
}

// A list collects the nodes of one slice and then returns it with no room to
// spare.
type list[T any] struct {
	nodes []*T
	free  []*T
	size  int
}

func (l *list[T]) add(n *T) { l.nodes = append(l.nodes, n) }

// done returns the nodes added since the last call, nil if there are none.
func (l *list[T]) done() []*T {
	n := len(l.nodes)
	if n == 0 {
		return nil
	}
	if n > len(l.free) {
		l.size = min(max(8, 2*l.size), 512)
		l.free = make([]*T, max(n, l.size))
	}
	out := l.free[:n:n]
	l.free = l.free[n:]
	copy(out, l.nodes)
	clear(l.nodes)
	l.nodes = l.nodes[:0]
	return out
}
