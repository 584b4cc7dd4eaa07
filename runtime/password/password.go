// Package password compares passwords with the hashes of crypt(3) and the
// newer schemes. lka uses it for tables of credentials, parent for the accounts
// of the system.
//
// A Checker takes as long for an account that does not exist as for one that
// does, and slows guessing down; a hash that would cost more than a login is
// worth is refused, and so is every scheme that keeps the password readable.
//
// What must never happen here: a password, or a hash, in an error or in a log.
package password

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/go-crypt/crypt"
	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/x/yescrypt"
)

// A Hash is what a password was turned into.
type Hash struct {
	scheme *scheme
	digest algorithm.Digest
}

// The errors of Parse.
var (
	ErrScheme = errors.New("the password hash is of a kind that is not supported")
	ErrForm   = errors.New("the password hash is malformed")
	ErrCost   = errors.New("the password hash costs too much to be checked")
)

// A scheme is a way to hash passwords.
type scheme struct {
	name string
	old  bool // broken by today's machines in no time
	cost func(parts []string) bool
}

// What the check of one password may cost: about a second, and this memory.
const (
	maxMemory       = 256 << 20 // bytes
	maxLogRounds    = 15        // of bcrypt
	maxRounds       = 1 << 20   // of SHA-crypt and the like
	maxPBKDF2Rounds = 1 << 21
	maxPasses       = 16 // over the memory
	maxLanes        = 16
)

// schemes are those that are read, by what stands between the first two
// dollar signs.
var schemes = map[string]*scheme{
	"1":             {"md5crypt", true, free},
	"5":             {"sha256crypt", false, shaCost},
	"6":             {"sha512crypt", false, shaCost},
	"2a":            {"bcrypt", false, bcryptCost},
	"2b":            {"bcrypt", false, bcryptCost},
	"2y":            {"bcrypt", false, bcryptCost},
	"argon2i":       {"argon2i", false, argon2Cost},
	"argon2d":       {"argon2d", false, argon2Cost},
	"argon2id":      {"argon2id", false, argon2Cost},
	"scrypt":        {"scrypt", false, scryptCost},
	"y":             {"yescrypt", false, yescryptCost},
	"pbkdf2":        {"pbkdf2", false, pbkdf2Cost},
	"pbkdf2-sha1":   {"pbkdf2", false, pbkdf2Cost},
	"pbkdf2-sha224": {"pbkdf2", false, pbkdf2Cost},
	"pbkdf2-sha256": {"pbkdf2", false, pbkdf2Cost},
	"pbkdf2-sha384": {"pbkdf2", false, pbkdf2Cost},
	"pbkdf2-sha512": {"pbkdf2", false, pbkdf2Cost},
	"bcrypt-sha256": {"bcrypt-sha256", false, bcryptSHACost},
}

// decoder reads the schemes above and some more, which Parse never shows it.
var decoder = sync.OnceValues(crypt.NewDecoderAll)

// maxHash is longer than any hash.
const maxHash = 512

// Parse reads a hash.
func Parse(text string) (*Hash, error) {
	if !strings.HasPrefix(text, "$") || len(text) > maxHash {
		return nil, ErrScheme
	}
	parts := strings.Split(text, "$")[1:]
	s := schemes[parts[0]]
	switch {
	case s == nil:
		return nil, ErrScheme
	case len(parts) < 3:
		return nil, ErrForm
	case !s.cost(parts):
		return nil, fmt.Errorf("%w (%s)", ErrCost, s.name)
	}
	d, err := decoder()
	if err != nil {
		return nil, err
	}
	digest, err := d.Decode(text)
	if err != nil {
		return nil, ErrForm // its text holds parts of the hash
	}
	return &Hash{s, digest}, nil
}

// Match reports whether password is the one. None has a NUL: some schemes pad
// with it, and would take a password for another.
func (h *Hash) Match(password string) (bool, error) {
	if strings.ContainsRune(password, 0) {
		return false, nil
	}
	ok, err := h.digest.MatchAdvanced(password)
	if err != nil {
		return false, ErrForm
	}
	return ok, nil
}

// Scheme returns the name of how the password was hashed, and whether that is
// of an old kind, which whoever reads it can undo.
func (h *Hash) Scheme() (name string, old bool) { return h.scheme.name, h.scheme.old }

// The costs of the schemes report whether a hash is cheap enough. Parts are
// what stands between the dollar signs.

func free([]string) bool { return true }

// shaCost reads $6$rounds=N$salt$hash, in which the rounds may be missing.
func shaCost(parts []string) bool {
	rounds, ok := strings.CutPrefix(parts[1], "rounds=")
	return !ok || atMost(rounds, maxRounds)
}

// bcryptCost reads $2b$NN$salt and hash.
func bcryptCost(parts []string) bool { return atMost(parts[1], maxLogRounds) }

// bcryptSHACost reads $bcrypt-sha256$v=2,t=2b,r=12$salt$hash.
func bcryptSHACost(parts []string) bool { return atMost(parameters(parts[1])["r"], maxLogRounds) }

// argon2Cost reads $argon2id$v=19$m=65536,t=3,p=4$salt$hash.
func argon2Cost(parts []string) bool {
	at := 1
	if strings.HasPrefix(parts[1], "v=") {
		at = 2
	}
	p := parameters(parts[at])
	return atMost(p["m"], maxMemory>>10) && atMost(p["t"], maxPasses) && atMost(p["p"], maxLanes)
}

// scryptCost reads $scrypt$ln=16,r=8,p=1$salt$hash.
func scryptCost(parts []string) bool {
	p := parameters(parts[1])
	const log, block = 20, 32
	if !atMost(p["ln"], log) || !atMost(p["r"], block) || !atMost(p["p"], maxLanes) {
		return false
	}
	ln, _ := strconv.Atoi(p["ln"])
	r, _ := strconv.Atoi(p["r"])
	return 128*r<<ln <= maxMemory
}

// yescryptCost reads $y$j9T$salt$hash.
func yescryptCost(parts []string) bool {
	_, ln, r, err := yescrypt.DecodeSetting([]byte(parts[1]))
	return err == nil && ln >= 0 && ln < 32 && r > 0 && r <= maxMemory && int64(128*r)<<ln <= maxMemory
}

// pbkdf2Cost reads $pbkdf2-sha512$310000$salt$hash.
func pbkdf2Cost(parts []string) bool {
	return atMost(strings.TrimPrefix(parts[1], "rounds="), maxPBKDF2Rounds)
}

// atMost reports whether text is a number from 1 to most.
func atMost(text string, most int) bool {
	n, err := strconv.ParseUint(text, 10, 32)
	return err == nil && n >= 1 && n <= uint64(most)
}

// parameters reads k=v,k=v.
func parameters(text string) map[string]string {
	m := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		k, v, _ := strings.Cut(pair, "=")
		m[k] = v
	}
	return m
}
