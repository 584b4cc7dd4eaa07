package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tableconf"
)

// A Source asks for one table. It is safe for concurrent use, and gives up
// when the context ends. That a key is not there is an answer and no error.
type Source interface {
	Check(ctx context.Context, s engine.Service, key string) (bool, error)
	Lookup(ctx context.Context, s engine.Service, key string) (value string, ok bool, err error)
	// Update drops what was kept from before, such as connections, and
	// reports whether the source can be asked.
	Update(ctx context.Context) error
	Close()
}

// A lister is a Source that knows all entries that a service goes round.
type lister interface {
	Source
	List(ctx context.Context, s engine.Service) ([]string, error)
}

// A fetcher is a Source that goes round itself.
type fetcher interface {
	Source
	Fetch(ctx context.Context, s engine.Service) (value string, ok bool, err error)
}

// Errors of sources.
var (
	ErrService = errors.New("the table does not serve this")
	errTooMuch = errors.New("the answer is too large")
	errEmpty   = errors.New("the answer is an empty text")
)

// maxValue bounds an answer, in bytes.
const maxValue = 64 << 10

// open returns the source of a table and what its file says, of which some is
// for the Table.
func open(t *compile.Table) (Source, *tableconf.File, error) {
	if t.Backend == "socketmap" && t.Config == "" {
		return newSocketmap(t.Name, nil, t.Path), new(tableconf.File), nil
	}
	f, err := tableconf.Parse(t.Backend, t.Path, t.Config)
	if err != nil {
		return nil, nil, err
	}
	s, err := sources[t.Backend](t.Name, f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", t.Path, err)
	}
	return s, f, nil
}

var sources = map[string]func(table string, f *tableconf.File) (Source, error){
	"sqlite":   newSQLite,
	"postgres": newPostgres,
	"mysql":    newMySQL,
	"ldap":     newLDAP,
	"redis":    newRedis,
	"socketmap": func(table string, f *tableconf.File) (Source, error) {
		return newSocketmap(table, f, ""), nil
	},
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
