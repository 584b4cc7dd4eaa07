package expand

import (
	"fmt"
	"strconv"
	"strings"
)

// An Account is whom a user name stands for.
type Account struct {
	Name     string
	UID, GID uint32
	Home     string
}

// ParseAccount reads uid:gid:home, as a table of users has it. The ids that
// mean "leave it as it is" to the kernel are refused: a delivery would keep
// the rights it should give up.
func ParseAccount(name, value string) (Account, error) {
	fields := strings.SplitN(value, ":", 3)
	bad := fmt.Errorf("user %q: want uid:gid:home with an absolute home, not %q", name, value)
	if len(fields) != 3 || !strings.HasPrefix(fields[2], "/") {
		return Account{}, bad
	}
	uid, err1 := strconv.ParseUint(fields[0], 10, 32)
	gid, err2 := strconv.ParseUint(fields[1], 10, 32)
	const leave = 1<<32 - 1
	if err1 != nil || err2 != nil || uid == leave || gid == leave {
		return Account{}, bad
	}
	return Account{Name: name, UID: uint32(uid), GID: uint32(gid), Home: fields[2]}, nil
}
