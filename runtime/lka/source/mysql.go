package source

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"os"
	"strconv"

	"github.com/go-sql-driver/mysql"

	"smtpd/compile/tableconf"
	"smtpd/runtime/lka/backend"
)

// localSockets are where servers listen that come with a system: the C
// library has one of them built in, and uses it for "localhost".
var localSockets = []string{
	"/run/mysqld/mysqld.sock", "/var/run/mysql/mysql.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock",
}

func newMySQL(_ string, f *tableconf.File) (backend.Source, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName = f.Value("username"), f.Value("password"), f.Value("database")
	c.Timeout, c.ReadTimeout, c.WriteTimeout = backend.LimitsOf(f).Timeout, backend.LimitsOf(f).Timeout, backend.LimitsOf(f).Timeout
	c.Logger = &mysql.NopLogger{} // it would write what it returns as an error
	host, port := f.Value("host"), f.Number("port", 0)
	switch {
	case f.Value("socket") != "":
		c.Net, c.Addr = "unix", f.Value("socket")
	case (host == "" || host == "localhost") && port == 0:
		c.Net, c.Addr = "unix", localSockets[0]
		c.DialFunc = dialLocal
	default:
		if port == 0 {
			port = 3306
		}
		if host == "" {
			host = "localhost"
		}
		c.Net, c.Addr = "tcp", net.JoinHostPort(host, strconv.Itoa(port))
		c.TLSConfig = "preferred" // as the C library: if the server has it
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	d := newDatabase(sql.OpenDB(connector), f)
	d.prepared = true
	d.lost = func(err error) bool { return errors.Is(err, mysql.ErrInvalidConn) || lostConnection(err) }
	return d, nil
}

func dialLocal(ctx context.Context, network, _ string) (net.Conn, error) {
	for _, path := range localSockets {
		if _, err := os.Stat(path); err == nil {
			return new(net.Dialer).DialContext(ctx, network, path)
		}
	}
	return nil, errors.New("no socket of a local server is where they are; name it with the setting socket, or name a host")
}
