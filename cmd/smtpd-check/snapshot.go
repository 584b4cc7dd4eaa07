package main

import (
	"fmt"
	"os"
	"strings"

	"smtpd/compile"
	"smtpd/compile/tablefile"
)

// A snapshots names files that are taken for the content of tables.
type snapshots struct {
	Table []string `sep:"none" placeholder:"NAME=FILE" help:"Take FILE, in the form of a table file, for the content of a table."`
}

// substitute puts the content of the files in the place of the tables.
func (c *snapshots) substitute(rs *compile.Ruleset) error {
	for _, arg := range c.Table {
		name, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("--table %s: no = in it; the form is NAME=FILE", arg)
		}
		t := tableNamed(rs, strings.Trim(name, "<>"))
		if t == nil {
			return fmt.Errorf("--table %s: the configuration has no table %q", arg, name)
		}
		content, err := readTable(file)
		if err != nil {
			return err
		}
		t.Kind, t.Entries = content.Kind, content.Entries
	}
	return nil
}

// snapshot returns the file that is taken for the content of a table, "" if
// none is.
func (c *snapshots) snapshot(table string) string {
	for _, arg := range c.Table {
		if name, file, _ := strings.Cut(arg, "="); strings.Trim(name, "<>") == table {
			return file
		}
	}
	return ""
}

// readTable reads the content of a table.
func readTable(file string) (*compile.Table, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	kind, entries, err := tablefile.Parse(file, data)
	if err != nil {
		return nil, err
	}
	t := &compile.Table{Kind: compile.List, Entries: entries}
	if kind == tablefile.Mapping {
		t.Kind = compile.Mapping
	}
	return t, nil
}

// tableNamed returns the table that a configuration declares by a name.
func tableNamed(rs *compile.Ruleset, name string) *compile.Table {
	for i := range rs.Tables {
		if rs.Tables[i].Name == name {
			return &rs.Tables[i]
		}
	}
	return nil
}
