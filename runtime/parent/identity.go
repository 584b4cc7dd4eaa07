package parent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// refuseRoot returns an error if d is to be done as user id 0.
func refuseRoot(d Delivery) error {
	switch {
	case d.As.UID == 0 && d.Method != Mbox:
		return &deliveryError{text: "MDA not allowed to deliver to: " + d.As.Name}
	case d.As.UID == 0:
		return &deliveryError{code: exTempFail, text: fmt.Sprintf(
			"nothing is delivered as user id 0: give %s an alias", d.As.Name)}
	}
	return nil
}

// mayActAs returns an error if this process must not run d for its account.
func (a *agent) mayActAs(d Delivery) error {
	if err := refuseRoot(d); err != nil {
		return err
	}
	switch {
	case a.many && d.forCourier():
		return nil // see as
	case a.many:
		return &deliveryError{code: exTempFail, text: "this process writes mailboxes alone"}
	case a.uid == 0 && !d.runsCommand():
		return &deliveryError{code: exTempFail, text: fmt.Sprintf(
			"this process is root and delivers nothing but to commands: start it so that it becomes the account of %s", d.As.Name)}
	case a.uid != 0 && (d.Method != LMTP || d.runsCommand()) && uint32(a.uid) != d.As.UID:
		return &deliveryError{code: exTempFail, text: fmt.Sprintf(
			"%s has user id %d, but this process runs as %d and can deliver only as itself", d.As.Name, d.As.UID, a.uid)}
	}
	return nil
}

// local returns the absolute path in the form in which it can be opened: what
// lies below the working directory is relative to it, since its parents may be
// closed to this process.
func (a *agent) local(path string) string {
	if path == a.start {
		return "."
	}
	if rel, ok := strings.CutPrefix(path, strings.TrimSuffix(a.start, "/")+"/"); ok {
		return rel
	}
	return path
}

// absolute returns path with the working directory before it if it is relative.
func (a *agent) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(a.start, path)
}

// target returns the absolute path of where d is stored. A relative path is
// one below the home, the working directory of deliveries.
func (a *agent) target(d Delivery) string {
	if filepath.IsAbs(d.Target) {
		return filepath.Clean(d.Target)
	}
	return filepath.Join(a.absolute(d.As.Home), d.Target)
}

// checkHome returns an error if d is stored below a home that is not there. It
// may be mounted later, and must not be made by this process.
func (a *agent) checkHome(d Delivery) error {
	home, target := a.absolute(d.As.Home), a.target(d)
	if target != home && !strings.HasPrefix(target, strings.TrimSuffix(home, "/")+"/") {
		return nil
	}
	if _, err := os.Stat(a.local(home)); err != nil {
		return &deliveryError{code: exTempFail, status: "4.2.0", text: "home of " + d.As.Name, err: err}
	}
	return nil
}
