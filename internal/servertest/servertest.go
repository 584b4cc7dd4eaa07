// Package servertest starts real servers for tests: databases and directories
// of the system, each an ordinary child process with a socket and a directory
// of its own. A server that is not installed skips the test, and says so.
package servertest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// find returns the program called name, or skips the test.
func find(t testing.TB, name string, patterns ...string) string {
	t.Helper()
	for _, p := range append(patterns, "/usr/sbin/"+name, "/usr/bin/"+name, "/usr/local/sbin/"+name, "/usr/local/bin/"+name) {
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: nothing is tested against it", name)
	}
	return path
}

// directory returns a new directory whose path is short enough for sockets.
func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "smtpd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// write makes a file and returns its path.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a program that comes to an end.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

// serve starts a server that lives until the test ends, and returns when it
// answers at its socket.
func serve(t testing.TB, cmd *exec.Cmd, socket string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var once sync.Once
	stop := func() { once.Do(func() { cmd.Process.Kill(); <-ended }) }
	t.Cleanup(stop)
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%v: %v\n%s", cmd, err, out.String())
		case <-time.After(20 * time.Millisecond): // there is no event to wait for
		}
	}
}

// account returns an account of the system that is not root, for programs that
// refuse to run as that, and gives it dir; nil if this is not root.
func account(t testing.TB, dir string, names ...string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range append(names, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Skip("there is no account for a server that refuses to run as root")
	return nil
}

// Postgres starts PostgreSQL and returns the connection string of a user
// called smtpd, who has the password secret and owns the database mail.
func Postgres(t testing.TB) string {
	t.Helper()
	server := find(t, "postgres", "/usr/lib/postgresql/*/bin/postgres")
	dir := directory(t)
	as := account(t, dir, "postgres")
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(filepath.Dir(server), name), args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		return cmd
	}
	data := filepath.Join(dir, "data")
	run(t, command("initdb", "--no-sync", "--auth=scram-sha-256", "--username=smtpd", "--pwfile="+secretFile(t, dir, as), "-D", data))
	serve(t, command("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off"), filepath.Join(dir, ".s.PGSQL.5432"))
	info := fmt.Sprintf("host='%s' user='smtpd' password='secret'", dir)
	for command("psql", "-q", info+" dbname='postgres'", "-c", "CREATE DATABASE mail").Run() != nil {
		time.Sleep(20 * time.Millisecond) // it listens before it answers
	}
	return info + " dbname='mail'"
}

func secretFile(t testing.TB, dir string, as *syscall.Credential) string {
	t.Helper()
	path := write(t, filepath.Join(dir, "password"), "secret\n")
	if as != nil {
		if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// MariaDB starts MariaDB with an empty database mail, and returns its socket.
// The user smtpd has the password secret.
func MariaDB(t testing.TB) (socket string) {
	t.Helper()
	server := find(t, "mariadbd")
	dir := directory(t)
	data := filepath.Join(dir, "data")
	install := exec.Command(find(t, "mariadb-install-db"), "--no-defaults", "--datadir="+data, "--skip-test-db", "--auth-root-authentication-method=normal", "--user="+self())
	run(t, install)
	socket = filepath.Join(dir, "sock")
	first := write(t, filepath.Join(dir, "init.sql"), "CREATE DATABASE mail;\nCREATE USER smtpd@localhost IDENTIFIED BY 'secret';\nGRANT ALL ON mail.* TO smtpd@localhost;\n")
	serve(t, exec.Command(server, "--no-defaults", "--datadir="+data, "--socket="+socket, "--skip-networking", "--user="+self(),
		"--pid-file="+filepath.Join(dir, "pid"), "--innodb-flush-log-at-trx-commit=0", "--init-file="+first), socket)
	return socket
}

func self() string {
	u, err := user.Current()
	if err != nil {
		return "root"
	}
	return u.Username
}

// Redis starts Redis with the password secret, and returns its socket.
func Redis(t testing.TB) (socket string) {
	t.Helper()
	server := find(t, "redis-server")
	dir := directory(t)
	socket = filepath.Join(dir, "sock")
	cmd := exec.Command(server, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--requirepass", "secret")
	cmd.Dir = dir
	serve(t, cmd, socket)
	return socket
}

// Slapd starts OpenLDAP below the suffix dc=example,dc=org with what ldif
// says, and returns its URL. cn=admin,dc=example,dc=org has the password
// secret; nobody else may read.
func Slapd(t testing.TB, ldif string) (url string) {
	t.Helper()
	server := find(t, "slapd")
	dir := directory(t)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := write(t, filepath.Join(dir, "slapd.conf"), `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile `+dir+`/pid
database mdb
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw secret
directory `+data+`
dbnosync
access to * by * none
`)
	run(t, exec.Command(server, "-T", "add", "-f", conf, "-l", write(t, filepath.Join(dir, "data.ldif"), ldif)))
	socket := filepath.Join(dir, "sock")
	url = "ldapi://" + percent(socket)
	serve(t, exec.Command(server, "-d", "0", "-f", conf, "-h", url), socket)
	return url
}

func percent(path string) string {
	return string(bytes.ReplaceAll([]byte(path), []byte("/"), []byte("%2F")))
}
