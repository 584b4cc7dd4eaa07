package lka

import (
	"errors"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tablefile"
)

var (
	errNoPassword = errors.New("the account has no password")
	errNoAccount  = errors.New("the account has no user id, group id or home directory")
)

// newPasswd returns a table of accounts in the form of passwd(5). What the
// compiler read stands until the file changes.
func newPasswd(t *compile.Table, delim byte) *static {
	entries, err := tablefile.ParsePasswd(t.Path, t.Config)
	s := newStatic(&compile.Table{Path: t.Path, Kind: compile.Dynamic, Entries: entries}, delim)
	s.content.Load().missing = err
	s.parse = func(path string, data []byte) (tablefile.Kind, []compile.Entry, error) {
		entries, err := tablefile.ParsePasswd(path, string(data))
		return tablefile.Mapping, entries, err
	}
	s.serves, s.project = engine.Credentials|engine.UserInfo|engine.String, account
	return s
}

// account returns what a service has of an account.
func account(s engine.Service, name, value string) (string, bool, error) {
	password, info := tablefile.Account(value)
	switch s {
	case engine.Credentials:
		if password == "" {
			return "", false, errNoPassword
		}
		return name + ":" + password, true, nil
	case engine.UserInfo:
		if info == "" {
			return "", false, errNoAccount
		}
		return info, true, nil
	}
	return "", false, errService
}
