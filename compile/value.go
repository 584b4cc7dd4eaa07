package compile

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// The values of language.md 1.7. Each parser returns ok false for what is
// not of its syntax; the caller says what was wrong with what.

// cBlanks are what the C library calls white space.
const cBlanks = " \t\n\v\f\r"

// maxDelay is the longest delay.
const maxDelay = math.MaxInt32 * time.Second

// parseDelay reads digits and one unit.
func parseDelay(s string) (d time.Duration, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 's':
		unit = time.Second
	case 'm':
		unit = time.Minute
	case 'h':
		unit = time.Hour
	case 'd':
		unit = 24 * time.Hour
	default:
		return 0, false
	}
	// A quoted value may have blanks and a sign in front, as strtonum(3)
	// takes them.
	n, err := strconv.ParseInt(strings.TrimLeft(s[:len(s)-1], cBlanks), 10, 64)
	if err != nil || n < 1 || n > int64(maxDelay/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// parseSize reads a number of bytes with an optional unit, as
// scan_scaled(3) takes it.
func parseSize(s string) (n int64, ok bool) {
	s = strings.TrimLeft(s, cBlanks)
	if s == "" {
		return 0, true
	}
	number := strings.TrimLeft(s, "+-")
	if len(s)-len(number) > 1 {
		return 0, false
	}
	end := 0
	for end < len(number) && isDigitOrPoint(number[end:]) {
		end++
	}
	digits, unit := number[:end], number[end:]
	if strings.Count(digits, ".") > 1 {
		return 0, false
	}
	// The sign is that of the whole part alone.
	if whole, _, _ := strings.Cut(digits, "."); s[0] == '-' && strings.Trim(whole, "0") != "" {
		return 0, false
	}
	shift := 0
	if unit != "" {
		// What follows the unit must not make it a longer word.
		if shift = strings.IndexByte("bkmgtpe", unit[0]|0x20); shift < 0 || len(unit) > 1 && isAlnum(unit[1]) {
			return 0, false
		}
	}
	return scale(digits, 10*uint(shift))
}

// scale returns the whole part of digits times 2 to the power of shift, and
// false if that is over what 63 bits hold. Without a unit a fraction does
// not count.
func scale(digits string, shift uint) (int64, bool) {
	whole, fraction, _ := strings.Cut(digits, ".")
	n, ok := new(big.Int).SetString("0"+whole, 10)
	if !ok {
		return 0, false
	}
	n.Lsh(n, shift)
	if shift > 0 && fraction != "" {
		f, _ := new(big.Int).SetString(fraction, 10)
		tens := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(fraction))), nil)
		n.Add(n, f.Lsh(f, shift).Quo(f, tens))
	}
	return n.Int64(), n.IsInt64()
}

func isDigitOrPoint(s string) bool {
	return s != "" && (s[0] == '.' || '0' <= s[0] && s[0] <= '9')
}

func isAlnum(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
}

// maxHostName is the longest name of a pki or ca in bytes.
const maxHostName = 64

// isHostName reports whether s is a name that a pki or ca may have: "*",
// nothing, or what glibc takes for a host name.
func isHostName(s string) bool {
	if s == "*" || s == "" {
		return true
	}
	if s[0] == '-' {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if len(label) < 1 || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' && label[i] != '_' {
				return false
			}
		}
	}
	return true
}

// isPrint reports whether b is a printable ASCII character.
func isPrint(b byte) bool { return ' ' <= b && b <= '~' }

// parseInt reads a number token. The lexer has reported one that does not
// fit.
func parseInt(text string) int {
	n, _ := strconv.ParseInt(text, 10, strconv.IntSize)
	return int(n)
}
