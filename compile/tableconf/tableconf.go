// Package tableconf reads the files that configure tables of the backends
// which are built in: sqlite, postgres, mysql, ldap, redis and socketmap. They
// are those of the helper programs that users of OpenSMTPD install, with some
// settings of our own, which those programs pass over.
//
// The compiler reads them, because it may read what lka may not, and so that
// `smtpd -n` and smtpd-check find mistakes; lka gets the text with the table.
// Nothing is opened or connected to here.
package tableconf

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"smtpd/compile/tablefile"
)

// A File is what a table of a backend was told. Values are right for their
// settings.
type File struct {
	settings map[string]setting
	unknown  []Unknown
}

// An Unknown is a setting that the backend does not have. The helper programs
// go on without them, so we do.
type Unknown struct {
	Line int
	Key  string
}

// A setting is a value and the line that it stands on.
type setting struct {
	value string
	line  int
}

// Services are the names of what tables are asked for.
var Services = []string{
	"alias", "domain", "credentials", "netaddr", "userinfo", "source", "mailaddr", "addrname", "mailaddrmap",
	"relayhost", "string", "regex", "auth",
}

// Serves reports whether a backend is built in and is configured by a file.
func Serves(backend string) bool {
	_, ok := kinds[backend]
	return ok
}

// A check returns what is wrong with a value.
type check func(value string) error

// A kind is what the file of a backend may say.
type kind struct {
	settings map[string]check
	required []string
	asks     *asking // nil: it answers without being told how
}

// An asking is what makes a backend answer something.
type asking struct {
	what string
	is   func(key string) bool
}

var kinds = map[string]kind{
	"sqlite":   {sql(map[string]check{"dbpath": absolute}), []string{"dbpath"}, &queries},
	"postgres": {sql(map[string]check{"conninfo": conninfo}), []string{"conninfo"}, &queries},
	"mysql": {sql(map[string]check{
		"host": text, "username": text, "password": text, "database": text, "port": number(65535), "socket": absolute,
	}), nil, &queries},
	"ldap":  {ldap(), []string{"url", "basedn"}, &filters},
	"redis": {redis(), nil, nil}, // it has queries that nobody wrote
	"socketmap": {with(ours, map[string]check{"server": server, "map": word, "protocol": oneOf("netstring", "line")}),
		[]string{"server"}, nil},
}

// queries and filters are what databases and directories are asked by.
var (
	queries = asking{"a query", func(key string) bool {
		return strings.HasPrefix(key, "query_") || key == "fetch_source" || key == "fetch_relayhost"
	}}
	filters = asking{"a filter", func(key string) bool { return strings.HasSuffix(key, "_filter") }}
)

// ours are the settings of our own: what keeps a slow server from slowing
// down others, and what is remembered of its answers.
var ours = map[string]check{
	"timeout": duration(time.Second, 50*time.Second), "connections": number(256),
	"cache_size": number(1 << 20), "cache_ttl": duration(0, 24*time.Hour), "cache_negative_ttl": duration(0, 24*time.Hour),
}

func with(a, b map[string]check) map[string]check {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func sql(own map[string]check) map[string]check {
	all := with(ours, own)
	for _, s := range Services {
		all["query_"+s] = text
	}
	for _, s := range []string{"fetch_source", "fetch_relayhost"} {
		all[s] = text
	}
	all["fetch_source_expire"], all["fetch_source_refresh"] = number(1<<31-1), number(1<<31-1)
	return all
}

func ldap() map[string]check {
	all := with(ours, map[string]check{"url": ldapURL, "username": text, "password": text, "basedn": text, "ca_file": absolute})
	for _, s := range Services {
		all[s+"_filter"], all[s+"_attributes"] = filter, attributes(columns(s))
	}
	return all
}

func redis() map[string]check {
	all := with(ours, map[string]check{
		"master": redisServer, "master_port": number(65535), "slave": redisServer, "slave_port": number(65535),
		"database": number(256), "password": text,
	})
	for _, s := range Services {
		all["query_"+s] = command
	}
	return all
}

// columns is how many values make the answer of a service.
func columns(service string) int {
	switch service {
	case "credentials":
		return 2
	case "userinfo":
		return 3
	}
	return 1
}

// blanks are what the C library calls white space.
const blanks = " \t\v\f\r\n"

// Parse reads the file name of a backend, whose content is data. The error is
// a *tablefile.Error.
func Parse(backend, name, data string) (*File, error) {
	k := kinds[backend]
	f := &File{settings: make(map[string]setting)}
	n := 0
	for line := range strings.Lines(data) {
		n++
		line = strings.Trim(line, blanks)
		if line == "" || line[0] == '#' {
			continue
		}
		if msg := f.add(&k, line, n); msg != "" {
			return nil, &tablefile.Error{File: name, Line: n, Msg: msg}
		}
	}
	if msg, at := f.complete(backend, &k); msg != "" {
		return nil, &tablefile.Error{File: name, Line: cmp.Or(at, max(n, 1)), Msg: msg}
	}
	return f, nil
}

// add takes one line: a key, white space or a colon, and a value.
func (f *File) add(k *kind, line string, n int) (msg string) {
	end := strings.IndexAny(line, blanks+":")
	if end < 0 {
		return fmt.Sprintf("no value for %q", line)
	}
	key, value := line[:end], line[end+1:]
	for {
		value = strings.TrimLeft(value, blanks)
		if len(value) < 2 || value[0] != ':' || !strings.ContainsRune(blanks, rune(value[1])) {
			break
		}
		value = value[1:]
	}
	valid, known := k.settings[key]
	switch {
	case value == "":
		return fmt.Sprintf("no value for %q", key)
	case strings.ContainsRune(value, 0):
		return fmt.Sprintf("the value for %q holds a NUL byte", key)
	case !known:
		f.unknown = append(f.unknown, Unknown{n, key})
		return ""
	}
	if before, twice := f.settings[key]; twice {
		return fmt.Sprintf("%q stands on line %d already", key, before.line)
	}
	if err := valid(value); err != nil {
		return fmt.Sprintf("%s: %v", key, err)
	}
	f.settings[key] = setting{value, n}
	return ""
}

// complete reports what is missing, and where it would belong if some line
// asks for it.
func (f *File) complete(backend string, k *kind) (msg string, line int) {
	for _, key := range k.required {
		if f.Value(key) == "" {
			return fmt.Sprintf("%s needs %q", backend, key), 0
		}
	}
	for key, s := range f.settings {
		if service, ok := strings.CutSuffix(key, "_filter"); ok && f.Value(service+"_attributes") == "" {
			return fmt.Sprintf("%q needs %q", key, service+"_attributes"), s.line
		}
	}
	if f.Value("username") != "" && backend == "ldap" && f.Value("password") == "" {
		return `"username" needs "password"`, f.settings["username"].line
	}
	if k.asks == nil {
		return "", 0
	}
	for key := range f.settings {
		if k.asks.is(key) {
			return "", 0
		}
	}
	return fmt.Sprintf("%s needs %s for some service", backend, k.asks.what), 0
}

// Value returns the value of a setting, "" if it is not there.
func (f *File) Value(key string) string { return f.settings[key].value }

// Number returns the number that a setting is, otherwise if it is not there.
func (f *File) Number(key string, otherwise int) int {
	n, err := strconv.Atoi(f.Value(key))
	if err != nil {
		return otherwise
	}
	return n
}

// Duration returns the time that a setting is, otherwise if it is not there.
func (f *File) Duration(key string, otherwise time.Duration) time.Duration {
	d, err := parseDuration(f.Value(key))
	if err != nil {
		return otherwise
	}
	return d
}

// HasPassword reports whether the file of a backend holds the password of a
// server.
func HasPassword(backend, data string) bool {
	f, err := Parse(backend, "", data)
	if err != nil {
		return false
	}
	return f.Value("password") != "" || strings.Contains(f.Value("conninfo"), "password") || strings.Contains(f.Value("conninfo"), "://")
}

// Unknown lists the settings that the backend does not have.
func (f *File) Unknown() []Unknown { return f.unknown }
