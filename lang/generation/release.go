package generation

import (
	"strconv"
	"strings"

	"smtpd/ast/old"
)

// releases are the words by which a dialect is asked for: the name in the
// list of dialects, a release, or the date of the tree.
var releases = map[string]old.Dialect{
	"1A": old.D1A, "1B": old.D1B, "1C": old.D1C, "1D": old.D1D, "1E": old.D1E, "2A": old.D53,
	"4.6": old.D1A, "4.7": old.D1B, "4.8": old.D1B, "4.9": old.D1B, "5.0": old.D1C, "5.1": old.D1C, "5.2": old.D1E, "5.2.1": old.D1E,
	"5.3": old.D53, "5.3.1": old.D53, "5.3.2": old.D53, "5.3.3": old.D53, "5.4": old.D54, "2B": old.D57,
	"5.4.1": old.D541, "5.4.2": old.D541, "5.4.3": old.D541, "5.4.4": old.D541, "5.4.5": old.D541, "5.4.6": old.D541,
	"5.5": old.D541, "5.6": old.D541, "5.7": old.D57, "5.7.1": old.D57, "5.7.2": old.D57, "5.7.3": old.D57, "5.8": old.D57,
	"5.9": old.D57, "5.9.1": old.D57, "5.9.2": old.D57, "6.0": old.D60, "6.0.0": old.D60, "6.0.2": old.D60, "6.0.3": old.D603,
	"6.1": old.D603, "6.2": old.D603, "6.3": old.D603,
}

// Release returns the dialect that a word names, and its generation. The
// dialect is 0 for a generation as a whole and for the present one.
func Release(word string) (d old.Dialect, gen int, ok bool) {
	switch word {
	case "1", "2", "3":
		gen, _ = strconv.Atoi(word)
		return 0, gen, true
	}
	if d, ok = releases[strings.ToUpper(word)]; ok {
		return d, d.Generation(), true
	}
	major, minor, _ := strings.Cut(word, ".")
	a, err := strconv.Atoi(major)
	b, berr := strconv.Atoi(minor)
	ok = err == nil && berr == nil && (a == 6 && b >= 4 && b <= 9 || a == 7 && b >= 0 && b <= 8)
	return 0, 3, ok
}
