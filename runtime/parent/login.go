package parent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"smtpd/runtime/imsg"
	"smtpd/runtime/password"
)

// accountFiles are where the system has its accounts.
type accountFiles struct {
	passwd string // name:hash:uid:gid:…
	shadow string // the hashes; "" where passwd is a master.passwd, which has them
}

// systemAccounts are the files of this system.
func systemAccounts() accountFiles {
	switch runtime.GOOS {
	case "linux", "illumos", "solaris":
		return accountFiles{"/etc/passwd", "/etc/shadow"}
	}
	return accountFiles{passwd: "/etc/master.passwd"}
}

// hashes is the file that has the hashes.
func (f accountFiles) hashes() string {
	if f.shadow != "" {
		return f.shadow
	}
	return f.passwd
}

// CanCheckPasswords returns why this process cannot check the passwords of
// accounts of the system.
func CanCheckPasswords() error {
	f, err := os.Open(systemAccounts().hashes())
	if err != nil {
		return err
	}
	return f.Close()
}

// logins checks passwords of the system's accounts. It reads the files each
// time: a password that was changed is in force at once.
type logins struct {
	files   accountFiles
	pam     *pam // asked in place of files; nil: there is none
	checker *password.Checker
}

func newLogins(files accountFiles, log *slog.Logger) *logins {
	l := &logins{files: files, checker: password.NewChecker(log)}
	// So that an account which does not exist costs from the first time on what
	// the others cost.
	readEntries(files.hashes(), func(fields []string) bool {
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "$") {
			return true
		}
		l.checker.Imitate(fields[1])
		return false
	})
	return l
}

// serve answers lka.
func (l *logins) serve(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	if m.Type != typeLogin {
		return imsg.Message{}, fmt.Errorf("parent: no requests of type %d", m.Type)
	}
	if l == nil {
		return imsg.Message{}, errors.New("parent: no listener asks for passwords of accounts")
	}
	var q login
	if err := q.parse(m.Data); err != nil {
		return imsg.Message{}, err
	}
	ok, err := l.check(ctx, q)
	if err != nil {
		return imsg.Message{}, fmt.Errorf("parent: %w", err)
	}
	return imsg.Message{Data: imsg.AppendBool(nil, ok)}, nil
}

func (l *logins) check(ctx context.Context, q login) (bool, error) {
	if l.pam != nil {
		return l.checker.Guard(ctx, q.User, func() (bool, error) { return l.pam.check(ctx, q) })
	}
	return l.checker.Check(ctx, q.User, q.Password, func() (string, error) { return l.files.hash(q.User, time.Now()) })
}

// hash returns the hash of an account's password, "" if there is no account
// that may log in: not one that is locked, has expired or has no password, and
// never root, whose password nobody is to guess from afar.
func (f accountFiles) hash(name string, now time.Time) (string, error) {
	if name == "" || strings.ContainsAny(name, ":\n\x00") {
		return "", nil
	}
	e, err := findEntry(f.passwd, name)
	if err != nil || e == nil {
		return "", err
	}
	if len(e) < 4 {
		return "", fmt.Errorf("%s: the line of an account is malformed", f.passwd)
	}
	if uid, err := strconv.ParseUint(e[2], 10, 32); err != nil || uid == 0 {
		return "", nil
	}
	hash := e[1]
	switch {
	case f.shadow == "":
		if expired(e, 6, time.Second, now) {
			return "", nil
		}
	case hash == "x":
		if e, err = findEntry(f.shadow, name); err != nil || e == nil {
			return "", err
		}
		if len(e) < 2 {
			return "", fmt.Errorf("%s: the line of an account is malformed", f.shadow)
		}
		if expired(e, 7, day, now) {
			return "", nil
		}
		hash = e[1]
	}
	if locked(hash) {
		return "", nil
	}
	return hash, nil
}

const day = 24 * time.Hour

// expired reports whether the time that a field has, in units since 1970, is
// over. None, or 0 in a master.passwd, is never.
func expired(fields []string, at int, unit time.Duration, now time.Time) bool {
	if len(fields) <= at {
		return false
	}
	n, err := strconv.ParseInt(fields[at], 10, 32)
	if err != nil || n < 0 || n == 0 && unit == time.Second {
		return false
	}
	return now.Unix() >= n*int64(unit/time.Second)
}

// locked reports whether nothing is the password, or nobody is to use it.
func locked(hash string) bool {
	return hash == "" || hash == "x" || hash[0] == '!' || hash[0] == '*'
}

// findEntry returns the fields of the line of an account, nil if it has none.
func findEntry(path, name string) (found []string, err error) {
	err = readEntries(path, func(fields []string) bool {
		if fields[0] == name {
			found = fields
		}
		return found == nil
	})
	return found, err
}

// readEntries calls f for each line, until it returns false.
func readEntries(path string, f func(fields []string) bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if !f(strings.Split(lines.Text(), ":")) {
			return nil
		}
	}
	return lines.Err()
}
