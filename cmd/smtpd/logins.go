package main

import (
	"fmt"

	"smtpd/compile"
	"smtpd/runtime/parent"
)

// asksForAccounts returns a listener that asks clients for the passwords of the
// system's accounts, nil if there is none.
func asksForAccounts(rs *compile.Ruleset) *compile.Listener {
	for i := range rs.Listeners {
		if l := &rs.Listeners[i]; l.Auth != compile.NoAuth && l.AuthTable == 0 {
			return l
		}
	}
	return nil
}

// checkLogins makes sure that this process, which checks them, can read what it
// needs for that.
func (d *daemon) checkLogins() error {
	l := asksForAccounts(d.rules)
	if l == nil {
		return nil
	}
	if err := parent.CanCheckPasswords(); err != nil {
		return fmt.Errorf("%s:%d: auth without a table is for the accounts of the system, the passwords of which cannot be checked: "+
			"%w; start smtpd as root and not in one process, or name a table of credentials", l.Origin.File, l.Origin.Line, err)
	}
	return nil
}
