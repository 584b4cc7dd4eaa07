package proc

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// An Account is whom a process runs as.
type Account struct {
	Name     string
	UID, GID int
	Groups   []int // besides GID
}

// The accounts of the daemon and of its queue. A packager sets others with
// -ldflags "-X smtpd/runtime/proc.DaemonUser=NAME".
var (
	DaemonUser = "_smtpd"
	QueueUser  = "_smtpq"
)

// lastResort is what runs the daemon on a system that has not been prepared.
const lastResort = "nobody"

// Choose returns the account to run as: the one called name, or, if name is
// empty, the first of the defaults that exists. A process that is not root
// runs as itself, whatever it is asked, and says so if it is asked otherwise.
func Choose(name string) (Account, error) {
	if os.Geteuid() != 0 {
		return own(name)
	}
	if name != "" {
		return lookUp(name)
	}
	for _, name := range []string{DaemonUser, lastResort} {
		if a, err := lookUp(name); err == nil {
			return a, nil
		}
	}
	return Account{}, fmt.Errorf("no account called %s or %s: name one with --user", DaemonUser, lastResort)
}

// ChooseQueue returns the account that the queue runs as: the one called
// name, or, if name is empty, QueueUser, or where there is no such account
// that of the rest.
func ChooseQueue(name string, rest Account) (Account, error) {
	if name != "" {
		return lookUp(name)
	}
	if a, err := lookUp(QueueUser); err == nil {
		return a, nil
	}
	return rest, nil
}

// WithGroups returns a with all the groups that it is a member of.
func (a Account) WithGroups() (Account, error) {
	u, err := user.Lookup(a.Name)
	if err != nil {
		return a, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return a, fmt.Errorf("groups of %s: %w", a.Name, err)
	}
	for _, text := range ids {
		if id, err := strconv.Atoi(text); err == nil && id > 0 && id != a.GID {
			a.Groups = append(a.Groups, id)
		}
	}
	return a, nil
}

func own(name string) (Account, error) {
	a := Account{Name: strconv.Itoa(os.Geteuid()), UID: os.Geteuid(), GID: os.Getegid()}
	if u, err := user.Current(); err == nil {
		a.Name = u.Username
	}
	if name != "" && name != a.Name {
		return a, fmt.Errorf("only root can become %s; this is %s", name, a.Name)
	}
	return a, nil
}

func lookUp(name string) (Account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return Account{}, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return Account{}, fmt.Errorf("account %s: %w", name, err)
	}
	if uid == 0 {
		return Account{}, fmt.Errorf("account %s is user 0: the daemon must not run as root", name)
	}
	return Account{Name: name, UID: uid, GID: gid}, nil
}

// Become makes the process run as a, for good. It does nothing for a process
// that is not root.
func (a Account) Become() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := syscall.Setgroups(append([]int{a.GID}, a.Groups...)); err != nil {
		return fmt.Errorf("become %s: setgroups: %w", a.Name, err)
	}
	if err := syscall.Setgid(a.GID); err != nil {
		return fmt.Errorf("become %s: setgid: %w", a.Name, err)
	}
	if err := syscall.Setuid(a.UID); err != nil {
		return fmt.Errorf("become %s: setuid: %w", a.Name, err)
	}
	if syscall.Setuid(0) == nil || os.Geteuid() == 0 || os.Getuid() == 0 {
		return fmt.Errorf("become %s: the process can still be root", a.Name)
	}
	return nil
}
