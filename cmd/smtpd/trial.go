package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"smtpd/runtime/proc"
)

// trialConfig takes mail on a high port of the loopback address for a domain
// that exists nowhere, and stores all of it in one maildir.
const trialConfig = `# Written by smtpd --trial. Change it as you like: it is not written again.
table mailbox { "you" = "%d:%d:%s" }
table everyone { "@" = "you" }

listen on 127.0.0.1 port 2525 hostname "trial.example"

action "inbox" maildir virtual <everyone> userbase <mailbox>
match from any for domain "trial.example" action "inbox"
`

// prepareTrial makes the directory of a trial and its configuration.
func prepareTrial(dir string, a proc.Account) error {
	if err := proc.Prepare(dir, a); err != nil {
		return err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "smtpd.conf")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, trialConfig, a.UID, a.GID, abs)
	return errors.Join(err, f.Close())
}
