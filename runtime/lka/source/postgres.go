package source

import (
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"smtpd/compile/tableconf"
	"smtpd/runtime/lka/backend"
)

func newPostgres(_ string, f *tableconf.File) (backend.Source, error) {
	text, err := tableconf.Conninfo(f.Value("conninfo"))
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(text)
	if err != nil {
		// The error shows the text, with all but the password: enough to
		// see a mistake, and no line of a log is the place for the rest.
		var inner interface{ Unwrap() error }
		if errors.As(err, &inner) && inner.Unwrap() != nil {
			err = inner.Unwrap()
		}
		return nil, err
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "smtpd"
	}
	d := newDatabase(stdlib.OpenDB(*config), f)
	d.lost = lostPostgres
	return d, nil
}

// lostPostgres takes the server's word for it, if it had time to say
// something: classes 08, and 57P for a server that goes down.
func lostPostgres(err error) bool {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return strings.HasPrefix(said.Code, "08") || strings.HasPrefix(said.Code, "57P")
	}
	return lostConnection(err)
}

// lostConnection reports whether an error is one of a connection that was.
func lostConnection(err error) bool {
	var network *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) && network.Op != "dial"
}
