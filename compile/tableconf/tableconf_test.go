package tableconf

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestHelperFiles reads files as they were written for the helper programs.
func TestHelperFiles(t *testing.T) {
	for _, c := range []struct {
		backend, text string
		want          map[string]string
	}{
		{"sqlite", "# a comment\n\n  dbpath \t\t /etc/mail/smtp.sqlite  \r\nquery_alias\tSELECT a FROM b WHERE c=?;\nquery_domain: SELECT d\n" +
			"fetch_source_expire 5\n", map[string]string{
			"dbpath": "/etc/mail/smtp.sqlite", "query_alias": "SELECT a FROM b WHERE c=?;", "query_domain": "SELECT d", "fetch_source_expire": "5",
		}},
		{"sqlite", "dbpath : /x\nfetch_source : SELECT :a\n", map[string]string{"dbpath": "/x", "fetch_source": "SELECT :a"}},
		{"postgres", "conninfo host='db.example.com' user='maildba' password='Open!' dbname='mail'\nquery_alias SELECT x WHERE y=$1;\n",
			map[string]string{"conninfo": "host='db.example.com' user='maildba' password='Open!' dbname='mail'"}},
		{"mysql", "host db.example.com\nusername maildba\npassword a#b: c\ndatabase mail\nquery_userinfo SELECT uid, gid, home FROM u WHERE n=?\n",
			map[string]string{"password": "a#b: c", "database": "mail"}},
		{"ldap", "url: ldap.example.com\nusername: uid=smtpd,dc=example,dc=com\npassword: x!\nbasedn: dc=example,dc=com\n" +
			"userinfo_filter: (&(objectclass=posixaccount)(uid=%s))\nuserinfo_attributes: uidNumber, gidNumber, homedir\n",
			map[string]string{"url": "ldap.example.com", "userinfo_attributes": "uidNumber, gidNumber, homedir"}},
		{"redis", "master 127.0.0.1\nmaster_port 6379\nslave unix:/run/redis.sock\nquery_credentials HMGET user:%s login passwd\n",
			map[string]string{"slave": "unix:/run/redis.sock", "query_credentials": "HMGET user:%s login passwd"}},
		{"redis", "", nil},
		{"socketmap", "server inet:[::1]:1234\nmap virtual\nprotocol netstring\ntimeout 3\nconnections 2\ncache_ttl 1m\n",
			map[string]string{"server": "inet:[::1]:1234", "timeout": "3"}},
	} {
		f, err := Parse(c.backend, "file", c.text)
		if err != nil {
			t.Errorf("%s: %v", c.backend, err)
			continue
		}
		for key, want := range c.want {
			if got := f.Value(key); got != want {
				t.Errorf("%s: %s is %q, want %q", c.backend, key, got, want)
			}
		}
	}
}

// TestMistakes has files that cannot be obeyed: the line is named, and what is
// wrong with it.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ backend, text, want string }{
		{"sqlite", "query_alias SELECT 1\n", `file:1: sqlite needs "dbpath"`},
		{"sqlite", "dbpath x.db\nquery_alias SELECT 1\n", `file:1: dbpath: "x.db" is no absolute path`},
		{"sqlite", "dbpath /x\n", "file:1: sqlite needs a query for some service"},
		{"sqlite", "dbpath /x\nquery_alias\n", `file:2: no value for "query_alias"`},
		{"sqlite", "dbpath /x\nquery_alias a\nquery_alias b\n", `file:3: "query_alias" stands on line 2 already`},
		{"sqlite", "dbpath /x\nquery_alias a\nfetch_source_expire -1\n", `file:3: fetch_source_expire: "-1" is no number`},
		{"sqlite", "dbpath /x\nquery_alias a\ntimeout 10m\n", `file:3: timeout: "10m" is no time from 1s to 50s`},
		{"sqlite", "dbpath /x\nquery_alias a\x00b\n", `file:2: the value for "query_alias" holds a NUL byte`},
		{"postgres", "query_alias SELECT 1\n", `file:1: postgres needs "conninfo"`},
		{"postgres", "conninfo host='x\n", "file:1: conninfo: host: a quote is not closed"},
		{"postgres", "conninfo host=x y\n", "file:1: conninfo: it is no list of setting=value"},
		{"postgres", "conninfo hostaddr=192.0.2.1\n", "file:1: conninfo: hostaddr is not supported"},
		{"postgres", "conninfo postgresql://u:p@h/d?channel_binding=require\n", "file:1: conninfo: channel_binding is not supported"},
		{"mysql", "host x\n", "file:1: mysql needs a query for some service"},
		{"mysql", "port 70000\nquery_alias a\n", `file:1: port: "70000" is no number`},
		{"ldap", "url x\nbasedn y\n", "file:2: ldap needs a filter for some service"},
		{"ldap", "url x\nbasedn y\nalias_filter (a=%u)\n", `file:3: "alias_filter" needs "alias_attributes"`},
		{"ldap", "url x\nbasedn y\nalias_filter (a=%x)\n", `file:3: alias_filter: "%x" means nothing here`},
		{"ldap", "url x\nbasedn y\nalias_filter (a=%u)%\n", `file:3: alias_filter: a lone "%" ends it`},
		{"ldap", "url x\nbasedn y\ncredentials_attributes a\n", `file:3: credentials_attributes: 2 attributes are needed, not "a"`},
		{"ldap", "url x\nusername y\nbasedn z\nalias_filter a\nalias_attributes b\n", `file:2: "username" needs "password"`},
		{"ldap", "url http://x\nbasedn y\n", `file:1: url: "http" is none of ldap, ldaps, ldapi, ldap+tls`},
		{"redis", "query_alias GET %d\n", `file:1: query_alias: "%d" means nothing here`},
		{"redis", "master unix:x\n", `file:1: master: "x" is no absolute path`},
		{"redis", "database 300\n", `file:1: database: "300" is no number from 0 to 256`},
		{"socketmap", "map x\n", `file:1: socketmap needs "server"`},
		{"socketmap", "server /run/x\n", `file:1: server: "/run/x" is neither unix:/path nor inet:host:port`},
		{"socketmap", "server inet:x\n", `file:1: server: "inet:x" is neither unix:/path nor inet:host:port`},
		{"socketmap", "server unix:/x\nprotocol udp\n", `file:2: protocol: "udp" is none of netstring, line`},
		{"socketmap", "server unix:/x\nmap a b\n", "file:2: map: holds white space"},
	} {
		if _, err := Parse(c.backend, "file", c.text); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s %q: %v; want %s", c.backend, c.text, err, c.want)
		}
	}
}

func TestUnknownSetting(t *testing.T) {
	f, err := Parse("redis", "file", "master x\nqeury_alias GET %s\n")
	if err != nil || len(f.Unknown()) != 1 || f.Unknown()[0] != (Unknown{2, "qeury_alias"}) {
		t.Errorf("%v, %v", f.Unknown(), err)
	}
}

func TestSettings(t *testing.T) {
	f, err := Parse("redis", "file", "timeout 3\ncache_ttl 1m30s\ncache_negative_ttl 0\nconnections 2\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := f.Duration("timeout", 0); d != 3*time.Second {
		t.Errorf("timeout %v", d)
	}
	if d := f.Duration("cache_ttl", 0); d != 90*time.Second {
		t.Errorf("cache_ttl %v", d)
	}
	if d := f.Duration("cache_negative_ttl", time.Second); d != 0 {
		t.Errorf("cache_negative_ttl %v", d)
	}
	if n, m := f.Number("connections", 8), f.Number("cache_size", 100); n != 2 || m != 100 {
		t.Errorf("%d, %d", n, m)
	}
}

// TestConninfo checks what is left of a connection string: all but what has no
// effect, with quotes that mean the same.
func TestConninfo(t *testing.T) {
	for text, want := range map[string]string{
		`host=a  user = 'b c' password='it\'s \\'`: `host='a' user='b c' password='it\'s \\'`,
		`host=a keepalives=1 gssencmode=disable`:   `host='a'`,
		`host=a\ b`:                                `host='a b'`,
		``:                                         ``,
		`postgres://u:p%40@h/d?sslmode=a`:          `postgres://u:p%40@h/d?sslmode=a`,
		`postgresql://h/d?keepalives=1`:            `postgresql://h/d`,
		`password='' dbname=x`:                     `password='' dbname='x'`,
		`host='/run/postgresql' dbname=x `:         `host='/run/postgresql' dbname='x'`,
	} {
		if got, err := Conninfo(text); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	if _, err := Conninfo("postgres://user:secret@[bad/x"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

// TestSettingsAreDocumented holds docs/tables.md to the settings that there
// are.
func TestSettingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/tables.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.NewReplacer("`", " ", ":", " ").Replace(string(text))
	for backend, k := range kinds {
		for key := range k.settings {
			if strings.HasPrefix(key, "query_") || strings.HasSuffix(key, "_filter") || strings.HasSuffix(key, "_attributes") {
				continue
			}
			if !strings.Contains(page, " "+key+" ") && !strings.Contains(page, "\n"+key+" ") {
				t.Errorf("docs/tables.md lacks %s of %s", key, backend)
			}
		}
	}
	for _, s := range Services {
		if !strings.Contains(string(text), "`"+s+"`") {
			t.Errorf("docs/tables.md lacks the service %s", s)
		}
	}
}
