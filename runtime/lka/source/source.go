package source

import (
	"errors"
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tableconf"
	"smtpd/lang/diag"
	"smtpd/lang/token"
	"smtpd/runtime/lka/backend"
)

// Errors of sources.
var (
	errTooMuch = errors.New("the answer is too large")
	errEmpty   = errors.New("the answer is an empty text")
)

// maxValue bounds an answer, in bytes.
const maxValue = 64 << 10

// Open returns the table that t declares, of a backend that is built in. It
// connects to nothing yet: an error is one of the configuration.
func Open(t *compile.Table) (*backend.Table, error) {
	if t.Backend == "socketmap" && t.Config == "" {
		return backend.New(t.Name, newSocketmap(t.Name, nil, t.Path)), nil
	}
	f, err := tableconf.Parse(t.Backend, t.Path, t.Config)
	if err != nil {
		return nil, err
	}
	s, err := sources[t.Backend](t.Name, f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Path, err)
	}
	return backend.NewLimited(t.Name, s, backend.LimitsOf(f)), nil
}

var sources = map[string]func(table string, f *tableconf.File) (backend.Source, error){
	"sqlite":   newSQLite,
	"postgres": newPostgres,
	"mysql":    newMySQL,
	"ldap":     newLDAP,
	"redis":    newRedis,
	"socketmap": func(table string, f *tableconf.File) (backend.Source, error) {
		return newSocketmap(table, f, ""), nil
	},
}

// Unsupported lists the tables of rs whose files ask for what no source does.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	for i := range rs.Tables {
		t := &rs.Tables[i]
		if !tableconf.Serves(t.Backend) || t.Config == "" {
			continue
		}
		b, err := Open(t)
		if err != nil {
			at := token.At(token.Pos{Filename: t.Origin.File, Line: t.Origin.Line, Column: t.Origin.Column})
			l.Errorf(at, "unsupported", "table %s: %v", t.Name, err)
			continue
		}
		b.Close()
	}
	return l
}

// perService returns the settings that are there for each service, under the
// name that key makes of it.
func perService(f *tableconf.File, key func(service string) string) map[engine.Service]string {
	m := make(map[engine.Service]string)
	for _, name := range tableconf.Services {
		if s, ok := engine.ParseService(name); ok && f.Value(key(name)) != "" {
			m[s] = f.Value(key(name))
		}
	}
	return m
}

// columns is how many fields make the value of a service.
func columns(s engine.Service) int {
	switch s {
	case engine.Credentials:
		return 2
	case engine.UserInfo:
		return 3
	}
	return 1
}

// isList reports whether several answers together are the value of a service.
func isList(s engine.Service) bool { return s == engine.Alias || s == engine.MailAddrMap }

// join makes a value of the answers of a source, each with as many fields as
// the service has columns.
func join(s engine.Service, rows [][]string) (string, bool, error) {
	if len(rows) == 0 {
		return "", false, nil
	}
	value := strings.Join(rows[0], ":")
	if isList(s) {
		var all []string
		for _, r := range rows {
			all = append(all, r[0])
		}
		value = strings.Join(all, ", ")
	}
	switch {
	case value == "":
		return "", false, errEmpty
	case len(value) > maxValue:
		return "", false, errTooMuch
	}
	return value, true, nil
}
