package ctl

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/runtime/control"
)

const (
	newaliasesUsage = "usage: newaliases [-f file]\n"
	defaultConfig   = "/etc/smtpd.conf"
	aliasTable      = "aliases"
)

// aliasFiles are where aliases are if no table says otherwise; the first that
// is there counts.
var aliasFiles = []string{"/etc/mail/aliases", "/etc/aliases"}

// newaliases makes a database of the aliases, and has the daemon read them.
func newaliases(t *terminal, args []string) int {
	conf := defaultConfig
	operands, err := getopt(args, "f:", func(_ byte, arg string) { conf = arg })
	if err != nil || len(operands) > 0 {
		fmt.Fprint(t.err, newaliasesUsage)
		return exitFailed
	}
	if err := t.rebuildAliases(conf); err != nil {
		fmt.Fprintf(t.err, "newaliases: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func (t *terminal) rebuildAliases(conf string) error {
	path, declared, err := aliasFile(conf)
	if err != nil {
		return err
	}
	m := mapping{source: path, target: path + ".db", kind: aliasMap}
	n, err := m.build(nil)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(t.out, "%s: %d aliases\n", path, n); err != nil || !declared {
		return err
	}
	err = ask(t, func(c *control.Client) error { return c.Update(aliasTable) })
	if errors.Is(err, errNotRunning) {
		return nil // it reads them when it starts
	}
	return err
}

// aliasFile returns the text of the table of aliases that a configuration
// declares, without the ending of a database, or else the usual one. The
// configuration need not be one that the daemon would start with: it may want
// just the database that is to be made.
func aliasFile(conf string) (path string, declared bool, err error) {
	f, found := lang.Parse(conf, lang.Options{})
	for _, d := range found {
		if d.Class == diag.Language || d.Class == diag.Host {
			return "", false, d
		}
	}
	for _, s := range f.Stmts {
		t := s.Table
		if t == nil || t.Name.Text != aliasTable {
			continue
		}
		if t.Spec == nil {
			return "", false, fmt.Errorf("%s: table %s is part of the configuration: there is no file to make a database of", conf, aliasTable)
		}
		if path := strings.TrimPrefix(strings.TrimPrefix(t.Spec.Text, "file:"), "db:"); strings.HasPrefix(path, "/") {
			return strings.TrimSuffix(path, ".db"), true, nil
		}
		return "", false, fmt.Errorf("%s: table %s is %s: there is no file to make a database of", conf, aliasTable, t.Spec.Text)
	}
	for _, path := range aliasFiles {
		if _, err := os.Stat(path); err == nil {
			return path, false, nil
		}
	}
	return "", false, fmt.Errorf("%s declares no table %s, and there is no %s", conf, aliasTable, strings.Join(aliasFiles, " or "))
}
