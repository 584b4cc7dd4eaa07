package tablefile

import (
	"strconv"
	"strings"
)

// ParsePasswd returns the normal entries of a passwd table: lines of passwd(5),
// of which the last two fields may be missing, and after which others may
// follow. What comes after a # is a comment. Account takes the value of an
// entry apart. The error is an *Error.
func ParsePasswd(name, data string) ([]Entry, error) {
	var entries []Entry
	n := 0
	for line := range strings.Lines(data) {
		n++
		line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "#")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		fields := strings.Split(line, ":")
		switch {
		case strings.ContainsRune(line, 0):
			return nil, &Error{name, n, "it holds a NUL byte"}
		case len(fields) < 6:
			return nil, &Error{name, n, "an account is name:password:uid:gid:comment:home"}
		case fields[0] == "":
			return nil, &Error{name, n, "an account without a name"}
		}
		value := fields[1] + ":"
		if isID(fields[2]) && isID(fields[3]) && fields[5] != "" {
			value += fields[2] + ":" + fields[3] + ":" + fields[5]
		}
		entries = append(entries, Entry{fields[0], value})
	}
	return Normalize(entries), nil
}

// Account returns the password of an entry of ParsePasswd, as crypt(3) makes
// it, and uid:gid:home. What it lacks is empty.
func Account(value string) (password, info string) {
	password, info, _ = strings.Cut(value, ":")
	return password, info
}

func isID(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
