package lang

import "slices"

// nearest returns the candidate that is closest to word, if one is within
// two edits and no other is as close. Shorter words must be closer: two
// edits turn any word of three letters into any other.
func nearest(word string, candidates []string) (string, bool) {
	most := min(2, len(word)/2)
	best, second := most+1, most+1
	var found string
	slices.Sort(candidates)
	for _, c := range candidates {
		switch d := distance(word, c, most); {
		case d < best:
			best, second, found = d, best, c
		case d < second:
			second = d
		}
	}
	return found, best <= most && best < second
}

// distance returns the number of edits (a letter more, less or changed, or
// two neighbours swapped) between a and b, or most+1 if that is more.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	next := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			d := row[j-1]
			if a[i-1] != b[j-1] {
				d++
			}
			d = min(d, row[j]+1, next[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			next[j] = d
		}
		before, row, next = row, next, before
	}
	return min(row[len(b)], most+1)
}
