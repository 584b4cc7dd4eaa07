package ere

// maxExample is how many states are searched for an example.
const maxExample = 5000

// Example returns a shortest printable text in which the expression is
// found; ok is false if there is none, or none within the budget.
func (r *Regexp) Example() (text string, ok bool) {
	type step struct {
		at   *State
		text string
	}
	seen := map[*State]bool{r.Start(): true}
	queue := []step{{r.Start(), ""}}
	for len(queue) > 0 && len(seen) < maxExample {
		s := queue[0]
		queue = queue[1:]
		if s.at.Accepts() {
			return s.text, true
		}
		for _, c := range r.printable() {
			if next := s.at.Next(c); !seen[next] {
				seen[next] = true
				queue = append(queue, step{next, s.text + string(rune(c))})
			}
		}
	}
	return "", false
}

// printable returns a byte of each class that has a printable one in lower
// case, a letter or digit if it has one.
func (r *Regexp) printable() []byte {
	best := make(map[uint8]byte)
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789.-@_!\"#$%&'()*+,/:;<=>?[\\]^`{|}~ ") {
		if _, ok := best[r.prog.class[c]]; !ok {
			best[r.prog.class[c]] = c
		}
	}
	var list []byte
	for class := range len(r.prog.reps) {
		if c, ok := best[uint8(class)]; ok {
			list = append(list, c)
		}
	}
	return list
}
