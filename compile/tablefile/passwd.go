package tablefile

import (
	"strconv"
	"strings"
)

// An Account is a line of a passwd table. What it lacks is empty.
type Account struct {
	Password string // as crypt(3) makes it
	Info     string // uid:gid:home
}

// Credentials returns the value for the service of that name; ok is false if
// the line has no password.
func (a *Account) Credentials(name string) (value string, ok bool) {
	return name + ":" + a.Password, a.Password != ""
}

// ParsePasswd returns the accounts of a passwd table by folded name: lines of
// passwd(5), the last two fields of which may be missing and after which
// others may follow. What comes after a # is a comment. Of two lines of a name
// the last one counts. The error is an *Error.
func ParsePasswd(name, data string) (map[string]Account, error) {
	accounts := make(map[string]Account)
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
		a := Account{Password: fields[1]}
		if isID(fields[2]) && isID(fields[3]) && fields[5] != "" {
			a.Info = fields[2] + ":" + fields[3] + ":" + fields[5]
		}
		if len(fields[0]) <= MaxKey {
			accounts[Fold(fields[0])] = a
		}
	}
	return accounts, nil
}

func isID(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
