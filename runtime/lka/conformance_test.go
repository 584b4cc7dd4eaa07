package lka

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/cdb"
	"smtpd/internal/servertest"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka/backend"
	outside "smtpd/runtime/lka/source"
)

// A fact is what every backend that serves a service has to say of a key.
type fact struct {
	service engine.Service
	key     string
	fields  []string // of the value; those of a list are its members
}

// value is the text that lka answers with.
func (f *fact) value() string {
	if f.service == engine.Alias || f.service == engine.MailAddrMap {
		return strings.Join(f.fields, ", ")
	}
	return strings.Join(f.fields, ":")
}

const someHash = "$2b$08$ANGFKBL.BnDLL0bUl7I6aumTCLRJSQluSQLuueWRG.xceworWrUIu"

// facts are the content of all tables, by service.
var facts = []fact{
	{engine.Alias, "root", []string{"alice", "bob@example.net"}},
	{engine.Alias, "info@example.org", []string{"carol"}},
	{engine.Alias, "@example.org", []string{"dave"}},
	{engine.Alias, "o'brien", []string{"obrien"}},
	{engine.Alias, `back\slash`, []string{"backslash"}},
	{engine.Alias, "100%s", []string{"percent"}},
	{engine.Alias, "a*(b)", []string{"filter"}},
	{engine.Alias, "müller", []string{"mueller"}},
	{engine.Credentials, "alice", []string{"alice", someHash}},
	{engine.Credentials, "bob@example.org", []string{"bob@example.org", someHash}},
	{engine.UserInfo, "alice", []string{"1000", "100", "/home/alice"}},
	{engine.UserInfo, "vmail", []string{"4294967294", "5000", "/var/vmail"}},
	{engine.MailAddrMap, "alice", []string{"alice@example.org", "@example.net"}},
	{engine.AddrName, "192.0.2.1", []string{"mx1.example.org"}},
	{engine.AddrName, "[2001:db8::1]", []string{"mx2.example.org"}},
	{engine.RelayHost, "example.org", []string{"smtp+tls://label@relay.example.net"}},
	{engine.Domain, "example.org", []string{"example.org"}},
	{engine.NetAddr, "192.0.2.1", []string{"192.0.2.1"}},
	{engine.MailAddr, "carol@example.org", []string{"carol@example.org"}},
	{engine.String, "alice", []string{"alice"}},
	{engine.Regex, "needle", []string{"needle"}},
	{engine.Auth, "alice:Secret", []string{"yes"}},
}

// sources are what is fetched in turn.
var sources = []string{"192.0.2.10", "192.0.2.11", "[2001:db8::10]"}

// checked are the services that only ask whether a key is there.
const checked = engine.Domain | engine.NetAddr | engine.MailAddr | engine.String | engine.Regex | engine.Auth

// strange are keys that no table has, and that would be found, or break
// something, if they became a part of a question.
var strange = []string{
	"nobody", "' OR '1'='1", `" OR ""="`, "'; DROP TABLE t_alias; --", "*", "*)(description=*", `\`, "%", "%s", "%u", "a b", "?", "$1", "",
	"root,", "r*", "\u00fc", "\xff", strings.Repeat("x", tablefile.MaxKey),
}

// A provider is a backend with the facts in it.
type provider struct {
	name    string
	serves  engine.Service
	fetches bool
	open    func(t *testing.T) (open func(s engine.Service) table, cut func())
}

const everything = engine.Alias | engine.Credentials | engine.UserInfo | engine.MailAddrMap | engine.AddrName | engine.RelayHost | checked | engine.Source

var providers = []provider{
	{"static", everything &^ engine.Auth, true, local(openStatic)},
	{"file", everything &^ engine.Auth, true, local(openFile)},
	{"db", everything &^ engine.Auth, true, local(openDB)},
	{"passwd", engine.Credentials | engine.UserInfo | engine.String, false, local(openPasswd)},
	{"proc", everything, true, local(openProc)},
	{"sqlite", everything, true, local(openSQLite)},
	{"postgres", everything, true, openPostgres},
	{"mysql", everything, true, openMySQL},
	{"ldap", everything &^ engine.Source, false, openLDAP},
	{"redis", everything &^ engine.Source, false, openRedis},
	{"socketmap", everything &^ (engine.Source | engine.Auth), false, openSocketmap("netstring")},
	{"socketmap of lines", everything &^ (engine.Source | engine.Auth), false, openSocketmap("line")},
}

// TestConformance asks every backend the same and wants the same answers.
func TestConformance(t *testing.T) {
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(t)
		})
	}
}

// local is for backends that have no connection which could be cut.
func local(open func(t *testing.T) func(s engine.Service) table) func(t *testing.T) (func(s engine.Service) table, func()) {
	return func(t *testing.T) (func(s engine.Service) table, func()) { return open(t), func() {} }
}

func (p *provider) test(t *testing.T) {
	open, cut := p.open(t)
	ctx := t.Context()
	for i := range facts {
		f := &facts[i]
		if p.serves&f.service == 0 {
			continue
		}
		table := open(f.service)
		if ok, err := table.check(ctx, f.service, f.key); !ok || err != nil {
			t.Errorf("check %v %q: %v, %v", f.service, f.key, ok, err)
		}
		if f.service&checked != 0 {
			continue
		}
		if v, ok, err := table.lookup(ctx, f.service, f.key); v != f.value() || !ok || err != nil {
			t.Errorf("lookup %v %q: %q, %v, %v; want %q", f.service, f.key, v, ok, err, f.value())
		}
	}
	for _, f := range facts {
		if p.serves&f.service == 0 {
			table := open(f.service)
			if ok, err := table.check(ctx, f.service, f.key); ok || !errors.Is(err, errService) {
				t.Errorf("%v is not served, and its answer is %v, %v", f.service, ok, err)
			}
			continue
		}
		p.testStrange(t, open(f.service), f.service)
	}
	p.testFetch(t, open(engine.Source))
	for range 4 { // the next question is answered all the same
		cut()
		if v, ok, err := open(engine.Credentials).lookup(ctx, engine.Credentials, "alice"); v != "alice:"+someHash || !ok || err != nil {
			t.Errorf("after the connections were cut: %q, %v, %v", v, ok, err)
		}
	}
}

func (p *provider) testStrange(t *testing.T, table table, s engine.Service) {
	for _, key := range strange {
		if ok, err := table.check(t.Context(), s, key); ok || err != nil {
			t.Errorf("check %v %q: %v, %v", s, key, ok, err)
		}
		if s&checked != 0 {
			continue
		}
		if v, ok, err := table.lookup(t.Context(), s, key); v != "" || ok || err != nil {
			t.Errorf("lookup %v %q: %q, %v, %v", s, key, v, ok, err)
		}
	}
}

func (p *provider) testFetch(t *testing.T, table table) {
	for i := range 2 * len(sources) {
		v, ok, err := table.fetch(t.Context(), engine.Source)
		if want := sources[i%len(sources)]; p.fetches && (v != want || !ok || err != nil) {
			t.Errorf("fetch: %q, %v, %v; want %q", v, ok, err, want)
		} else if !p.fetches && (ok || err == nil) {
			t.Errorf("fetch is not served, and its answer is %q, %v, %v", v, ok, err)
		}
	}
}

// entries returns what a table for one service holds.
func entries(s engine.Service) []compile.Entry {
	var list []compile.Entry
	for i := range facts {
		if f := &facts[i]; f.service == s {
			list = append(list, compile.Entry{Key: f.key, Value: f.value()})
		}
	}
	if s == engine.Source {
		for _, address := range sources {
			list = append(list, compile.Entry{Key: address})
		}
	}
	return tablefile.Normalize(list)
}

func openStatic(*testing.T) func(s engine.Service) table {
	return func(s engine.Service) table { return newStatic(&compile.Table{Entries: entries(s)}, '+') }
}

func openFile(t *testing.T) func(s engine.Service) table {
	return func(s engine.Service) table {
		var text strings.Builder
		for _, e := range entries(s) {
			fmt.Fprintln(&text, strings.TrimSpace(e.Key+" "+e.Value))
		}
		path := filepath.Join(t.TempDir(), "table")
		writeFile(t, path, text.String())
		f := newStatic(&compile.Table{Path: path, Kind: compile.Dynamic}, '+')
		if err := f.update(t.Context()); err != nil {
			t.Fatal(err)
		}
		return f
	}
}

func openDB(t *testing.T) func(s engine.Service) table {
	return func(s engine.Service) table {
		list := entries(s)
		for i := range list {
			if list[i].Value == "" {
				list[i].Value = list[i].Key
			}
		}
		data, err := cdb.Encode(list)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "table.db")
		writeFile(t, path, string(data))
		d := newDatabase(&compile.Table{Path: path, Backend: "db"}, '+')
		if err := d.update(t.Context()); err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openPasswd(*testing.T) func(s engine.Service) table {
	var text strings.Builder
	for _, f := range facts {
		switch f.service {
		case engine.Credentials:
			fmt.Fprintf(&text, "%s:%s::::\n", f.key, f.fields[1])
		case engine.UserInfo:
			if f.key == "alice" { // the later line counts, and has both
				fmt.Fprintf(&text, "%s:%s:%s:%s:Alice:%s:/bin/sh:more\n", f.key, someHash, f.fields[0], f.fields[1], f.fields[2])
			} else {
				fmt.Fprintf(&text, "%s::%s:%s::%s\n", f.key, f.fields[0], f.fields[1], f.fields[2])
			}
		}
	}
	p := newPasswd(&compile.Table{Name: "t", Backend: "passwd", Path: "/etc/mail/passwd", Config: text.String()}, '+')
	return func(engine.Service) table { return p }
}

// openProc writes the facts into a shell script that speaks the table protocol.
func openProc(t *testing.T) func(s engine.Service) table {
	var text strings.Builder
	text.WriteString(`while IFS= read -r line; do [ "$line" = "config|ready" ] && break; done
for s in alias credentials userinfo mailaddrmap addrname relayhost domain netaddr mailaddr string regex auth source; do echo "register|$s"; done
echo 'register|ready'
n=0
while IFS= read -r line; do
	rest=${line#*|*|*|*|}; op=${rest%%|*}; rest=${rest#*|}; service=${rest%%|*}; rest=${rest#*|}; id=${rest%%|*}; key=${rest#*|}
	v=
	case "$op|$service|$key" in
`)
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	for i := range facts {
		f := &facts[i]
		for _, op := range []string{"check", "lookup"} {
			fmt.Fprintf(&text, "\t%s) v=%s ;;\n", quote(op+"|"+f.service.String()+"|"+f.key), quote(f.value()))
		}
	}
	fmt.Fprintf(&text, "\tfetch*) set -- %s; shift $n; v=$1; n=$(((n + 1) %% %d)) ;;\n", strings.Join(sources, " "), len(sources))
	text.WriteString(`	esac
	if [ "$v" ]; then printf '%s-result|%s|found|%s\n' "$op" "$id" "$v"; else printf '%s-result|%s|not-found\n' "$op" "$id"; fi
done
`)
	start := func(context.Context) (net.Conn, error) {
		ours, theirs, err := imsg.Socketpair("table")
		if err != nil {
			return nil, err
		}
		defer ours.Close()
		defer theirs.Close()
		cmd := exec.Command("/bin/sh", "-f", "-c", text.String())
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, os.Stderr
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return net.FileConn(ours)
	}
	p := backend.NewProgram("t", start, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended; p.Close() })
	return func(engine.Service) table { return remote{p} }
}

// uncached has every question asked.
const uncached = "cache_ttl 0\ncache_negative_ttl 0\n"

// openBackend opens a table of a backend that is built in.
func openBackend(t *testing.T, name, config string) func(s engine.Service) table {
	t.Helper()
	b, err := outside.Open(&compile.Table{Name: "t", Backend: name, Path: "/etc/mail/" + name + ".conf", Config: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return func(engine.Service) table { return remote{b} }
}

// fill makes a table for each service, with keys of some type, and returns the
// queries.
func fill(t *testing.T, db *sql.DB, kind string, placeholder func(n int) string) (queries string) {
	t.Helper()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	var text strings.Builder
	made := make(map[engine.Service]bool)
	for i, f := range facts {
		if !made[f.service] {
			number := "VARCHAR(255)"
			if f.service == engine.UserInfo {
				number = "BIGINT"
			}
			exec(fmt.Sprintf("CREATE TABLE t_%v (n INTEGER, k %s, a %s, b %s, c VARCHAR(255))", f.service, kind, number, number))
			columns := []string{"a", "a, b", "a, b, c"}[len(f.fields)-1]
			if strings.Contains(f.value(), ", ") || f.service == engine.Alias {
				columns = "a"
			}
			fmt.Fprintf(&text, "query_%v\t%s\n", f.service, fmt.Sprintf("SELECT %s FROM t_%v WHERE k = %s ORDER BY n;", columns, f.service, placeholder(1)))
			made[f.service] = true
		}
		rows := [][]string{f.fields}
		if f.service == engine.Alias || f.service == engine.MailAddrMap {
			rows = nil
			for _, member := range f.fields {
				rows = append(rows, []string{member})
			}
		}
		for j, r := range rows {
			args := []any{100*i + j, f.key, nil, nil, nil}
			for n, field := range r {
				args[2+n] = field
			}
			exec(fmt.Sprintf("INSERT INTO t_%v VALUES (%s, %s, %s, %s, %s)", f.service, placeholder(1), placeholder(2), placeholder(3), placeholder(4), placeholder(5)), args...)
		}
	}
	exec("CREATE TABLE t_source (v VARCHAR(255))")
	for _, s := range sources {
		exec(fmt.Sprintf("INSERT INTO t_source VALUES (%s)", placeholder(1)), s)
	}
	text.WriteString("fetch_source SELECT v FROM t_source ORDER BY v\n")
	return text.String()
}

func questionMark(int) string { return "?" }

func openDatabase(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openSQLite(t *testing.T) func(s engine.Service) table {
	path := filepath.Join(t.TempDir(), "mail.sqlite")
	queries := fill(t, openDatabase(t, "sqlite", path), "TEXT", questionMark)
	return openBackend(t, "sqlite", "dbpath "+path+"\n"+queries)
}

func openPostgres(t *testing.T) (func(s engine.Service) table, func()) {
	info := servertest.Postgres(t)
	db := openDatabase(t, "pgx", info)
	_, rest, _ := strings.Cut(info, "host='")
	dir, rest, _ := strings.Cut(rest, "'")
	w := newWire(t, filepath.Join(dir, ".s.PGSQL.5432"))
	conninfo := "conninfo host='" + filepath.Dir(w.socket) + "'" + rest + "\n"
	queries := fill(t, db, "VARCHAR(255)", func(n int) string { return fmt.Sprint("$", n) })
	n := 0
	cut := func() {
		if n++; n%2 == 0 {
			w.cut()
			return
		}
		// The other way: the server ends the sessions, as when it is restarted.
		if _, err := db.Exec("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'smtpd'"); err != nil {
			t.Fatal(err)
		}
	}
	return openBackend(t, "postgres", conninfo+uncached+queries), cut
}

func openMySQL(t *testing.T) (func(s engine.Service) table, func()) {
	// What is compared in other ways is what the server is told to find.
	const exact = "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
	socket := servertest.MariaDB(t)
	queries := fill(t, openDatabase(t, "mysql", "smtpd:secret@unix("+socket+")/mail"), exact, questionMark)
	w := newWire(t, socket)
	return openBackend(t, "mysql", "socket "+w.socket+"\nusername smtpd\npassword secret\ndatabase mail\n"+uncached+queries), w.cut
}

func openLDAP(t *testing.T) (func(s engine.Service) table, func()) {
	var ldif, conf strings.Builder
	ldif.WriteString("dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n")
	attributes := map[engine.Service][]string{
		engine.Credentials: {"uid", "userPassword"}, engine.UserInfo: {"uidNumber", "gidNumber", "homeDirectory"},
	}
	for i, f := range facts {
		fmt.Fprintf(&ldif, "dn: cn=%d,dc=example,dc=org\nobjectClass: device\nobjectClass: extensibleObject\nou: %v\ndescription: %s\n", i, f.service, f.key)
		names := attributes[f.service]
		for n, field := range f.fields {
			name := "l"
			if names != nil {
				name = names[n]
			}
			fmt.Fprintf(&ldif, "%s: %s\n", name, field)
		}
		ldif.WriteString("\n")
	}
	url := servertest.Slapd(t, ldif.String())
	w := newWire(t, strings.ReplaceAll(strings.TrimPrefix(url, "ldapi://"), "%2F", "/"))
	fmt.Fprintf(&conf, "url: ldapi://%s\nusername: cn=admin,dc=example,dc=org\npassword: secret\nbasedn: dc=example,dc=org\n", w.socket)
	for s := engine.Alias; s <= engine.Auth; s <<= 1 {
		names := attributes[s]
		if names == nil {
			names = []string{"l"}
		}
		if s != engine.Source {
			fmt.Fprintf(&conf, "%v_filter: (&(ou=%v)(description=%%u))\n%v_attributes: %s\n", s, s, s, strings.Join(names, ", "))
		}
	}
	return openBackend(t, "ldap", conf.String()+uncached), w.cut
}

func openRedis(t *testing.T) (func(s engine.Service) table, func()) {
	socket := servertest.Redis(t)
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, Password: "secret", DB: 3, Protocol: 2})
	defer c.Close()
	do := func(args ...any) {
		t.Helper()
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
	}
	for i := range facts {
		f := &facts[i]
		key := f.service.String() + ":" + f.key
		switch f.service {
		case engine.Alias, engine.MailAddrMap:
			for _, member := range f.fields {
				do("RPUSH", key, member)
			}
		case engine.Credentials:
			do("HSET", key, "login", f.fields[0], "passwd", f.fields[1])
		case engine.UserInfo:
			do("HSET", key, "uid", f.fields[0], "gid", f.fields[1], "maildir", f.fields[2])
		case engine.Domain, engine.MailAddr:
			do("SADD", f.service.String(), f.key)
		default:
			do("SET", key, f.value())
		}
	}
	w := newWire(t, socket)
	return openBackend(t, "redis", uncached+`
master unix:`+w.socket+`
password secret
database 3
query_alias LRANGE alias:%s 0 -1
query_mailaddrmap LRANGE mailaddrmap:%s 0 -1
query_credentials HMGET credentials:%s login passwd
query_userinfo HMGET userinfo:%s uid gid maildir
query_domain SISMEMBER domain %s
query_mailaddr SISMEMBER mailaddr %s
query_auth GET auth:%s
`), w.cut
}

// openSocketmap serves a map for each service: its requests do not say which.
func openSocketmap(protocol string) func(t *testing.T) (func(s engine.Service) table, func()) {
	return func(t *testing.T) (func(s engine.Service) table, func()) {
		w := newWire(t, serveMaps(t, protocol))
		tables := make(map[engine.Service]table)
		return func(s engine.Service) table {
			if tables[s] == nil {
				tables[s] = openBackend(t, "socketmap", "server unix:"+w.socket+"\nprotocol "+protocol+"\nmap "+s.String()+"\n"+uncached)(s)
			}
			return tables[s]
		}, w.cut
	}
}

// serveMaps answers requests for the map that is named after a service.
func serveMaps(t *testing.T, protocol string) (socket string) {
	dir, err := os.MkdirTemp("/tmp", "smtpd-test-") // short enough
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	answer := func(request string) string {
		name, key, _ := strings.Cut(request, " ")
		i := slices.IndexFunc(facts, func(f fact) bool { return f.service.String() == name && f.key == key })
		if i < 0 {
			return "NOTFOUND "
		}
		return "OK " + facts[i].value()
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					if protocol == "line" {
						line, err := r.ReadString('\n')
						if err != nil {
							return
						}
						fmt.Fprintf(c, "%s\n", answer(strings.TrimSuffix(line, "\n")))
						continue
					}
					var n int
					if _, err := fmt.Fscanf(r, "%d:", &n); err != nil {
						return
					}
					text := make([]byte, n+1)
					if _, err := io.ReadFull(r, text); err != nil {
						return
					}
					reply := answer(string(text[:n]))
					fmt.Fprintf(c, "%d:%s,", len(reply), reply)
				}
			}()
		}
	}()
	return socket
}

// A wire stands between a client and a server, and can be cut.
type wire struct {
	socket string

	mu    sync.Mutex
	conns []net.Conn
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "smtpd-test-") // short enough
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &wire{socket: filepath.Join(dir, filepath.Base(server))}
	ln, err := net.Listen("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); w.cut() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("unix", server)
			if err != nil {
				c.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, c, s)
			w.mu.Unlock()
			go io.Copy(c, s)
			go io.Copy(s, c)
		}
	}()
	return w
}

// cut closes every connection.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}
