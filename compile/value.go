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
	if whole, _, _ := strings.Cut(digits, "."); strings.Count(digits, ".") > 1 || len(whole) > maxSizeDigits {
		return 0, false
	}
	shift := 0
	if unit != "" {
		// What follows the unit must not make it a longer word.
		if shift = strings.IndexByte("bkmgtpe", unit[0]|0x20); shift < 0 || len(unit) > 1 && isAlnum(unit[1]) {
			return 0, false
		}
	}
	n, ok = scale(digits, 10*uint(shift))
	return n, ok && (n == 0 || s[0] != '-')
}

// maxSizeDigits is how many digits a size has before its point, zeros in
// front included.
const maxSizeDigits = 20

// scale returns the whole part of digits times 2 to the power of shift. The
// digits have to fit 63 bits; the product need not, and is as large as it can
// be then. OpenSMTPD multiplies modulo 2 to the power of 64 and refuses what
// is negative by that; so does this. Without a unit a fraction does not count.
func scale(digits string, shift uint) (int64, bool) {
	whole, fraction, _ := strings.Cut(digits, ".")
	w, err := strconv.ParseInt("0"+whole, 10, 64)
	if err != nil {
		return 0, false
	}
	n := new(big.Int).Lsh(big.NewInt(w), shift)
	if shift > 0 && fraction != "" {
		f, _ := new(big.Int).SetString(fraction, 10)
		tens := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(fraction))), nil)
		n.Add(n, f.Lsh(f, shift).Quo(f, tens))
	}
	if n.IsInt64() {
		return n.Int64(), true
	}
	return math.MaxInt64, n.Bit(63) == 0
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
// nothing, or what glibc takes for a host name, the root of all included.
func isHostName(s string) bool {
	if s == "*" || s == "" || s == "." {
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
