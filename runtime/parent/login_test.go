package parent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpd/runtime/imsg"
)

// secretHash and oldHash are of "secret".
const (
	secretHash = "$6$rounds=1000$saltstring$2BkAo106CG84raQcWpAlhyy6TSSkAsL1nfvBCoezLYyerUzY2l8axTvq6NynEt7SQAx3/cdop9ds0po8uaeHq0"
	oldHash    = "$1$saltsalt$9xy1btjgzLYfb7hivXtC//"
)

func accountsIn(t *testing.T, passwd, shadow string) accountFiles {
	t.Helper()
	f := accountFiles{passwd: filepath.Join(t.TempDir(), "passwd")}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(f.passwd, passwd)
	if shadow != "" {
		f.shadow = f.passwd + ".shadow"
		write(f.shadow, shadow)
	}
	return f
}

// linuxAccounts has the hashes in a shadow file, where a user may be found
// locked, without a password, or expired.
func linuxAccounts(t *testing.T) accountFiles {
	passwd, shadow := "root:x:0:0::/root:/bin/sh\ntoor:x:00:0::/root:/bin/sh\nplain:"+secretHash+":1001:1001::/:\nbroken:x\n", ""
	for name, hash := range map[string]string{
		"root": secretHash, "toor": secretHash, "alice": secretHash, "locked": "!" + secretHash, "star": "*", "empty": "", "old": oldHash,
		"des": "abNANd1rDfiNc", "expired": secretHash, "valid": secretHash,
	} {
		passwd += name + ":x:1000:1000::/home/" + name + ":/bin/sh\n"
		expires := map[string]string{"expired": "10000", "valid": "1000000"}[name]
		shadow += name + ":" + hash + ":19000:0:99999:7::" + expires + ":\n"
	}
	return accountsIn(t, passwd+"shadowless:x:1002:1002::/:\n", shadow)
}

func bsdAccounts(t *testing.T) accountFiles {
	master := ""
	for name, hash := range map[string]string{
		"root": secretHash, "alice": secretHash, "locked": "*LOCKED*" + secretHash, "star": "*************", "empty": "", "old": oldHash,
		"des": "abNANd1rDfiNc", "expired": secretHash, "valid": secretHash,
	} {
		uid := map[string]string{"root": "0"}[name]
		if uid == "" {
			uid = "1000"
		}
		expires := map[string]string{"expired": "1000000000", "valid": "100000000000"}[name]
		if expires == "" {
			expires = "0"
		}
		master += name + ":" + hash + ":" + uid + ":1000:default:0:" + expires + ":Someone:/home/" + name + ":/bin/sh\n"
	}
	return accountsIn(t, master, "")
}

func TestLogin(t *testing.T) {
	for system, files := range map[string]accountFiles{"shadow": linuxAccounts(t), "master.passwd": bsdAccounts(t)} {
		t.Run(system, func(t *testing.T) {
			var logs bytes.Buffer
			l := newLogins(files, slog.New(slog.NewTextHandler(&logs, nil)))
			for name, want := range map[string]bool{
				"alice": true, "old": true, "valid": true, "root": false, "locked": false, "star": false, "empty": false,
				"expired": false, "nobody": false, "": false, "ali": false, "alice:x": false, "Alice": false,
			} {
				if got, err := l.check(t.Context(), login{name, "secret"}); got != want || err != nil {
					t.Errorf("%q: %v, %v, want %v", name, got, err, want)
				}
			}
			for _, wrong := range []string{"", "Secret", secretHash, "secret "} {
				l := newLogins(files, slog.New(slog.DiscardHandler)) // without the pause after the last
				if ok, err := l.check(t.Context(), login{"alice", wrong}); ok || err != nil {
					t.Errorf("password %q: %v, %v", wrong, ok, err)
				}
			}
			if ok, err := l.check(t.Context(), login{"des", "secret"}); ok || err == nil {
				t.Errorf("a hash of DES: %v, %v", ok, err)
			}
			if log := logs.String(); !strings.Contains(log, "user=old kind=md5crypt") || strings.Contains(log, "secret") || strings.Contains(log, "$") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

func TestLoginShadow(t *testing.T) {
	files := linuxAccounts(t)
	for name, want := range map[string]string{"plain": secretHash, "toor": "", "shadowless": ""} {
		if got, err := files.hash(name, time.Now()); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := files.hash("broken", time.Now()); err == nil {
		t.Error("a malformed line is no error")
	}
	files.shadow += ".gone"
	if _, err := files.hash("alice", time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}

// TestLoginUnknown checks that an account which does not exist costs what the
// others cost from the first time on.
func TestLoginUnknown(t *testing.T) {
	l := newLogins(accountsIn(t, "a:*:1:1::/:\nb:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW:2:2:::\n", ""), slog.New(slog.DiscardHandler))
	if got := l.checker.Imitates(); got != "bcrypt" {
		t.Errorf("costs what %s costs", got)
	}
}

// TestLoginAsked asks over a link, as lka does, and where nobody may ask.
func TestLoginAsked(t *testing.T) {
	for name, l := range map[string]*logins{"yes": newLogins(linuxAccounts(t), slog.New(slog.DiscardHandler)), "no": nil} {
		ours, theirs := imsg.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		var served sync.WaitGroup
		served.Go(func() { imsg.NewPeer(ours, l.serve).Run(ctx) })
		peer := imsg.NewPeer(theirs, nil)
		served.Go(func() { peer.Run(ctx) })
		c := NewClient(peer)
		ok, err := c.Login(ctx, "alice", "secret")
		if ok != (l != nil) || (err == nil) != (l != nil) {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		if _, err := c.Forward(ctx, Account{Name: "alice"}); err == nil {
			t.Error("lka may have a .forward opened")
		}
		cancel()
		served.Wait()
	}
}
