package backend

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"smtpd/compile/tableconf"
)

func newPostgres(_ string, f *tableconf.File) (Source, error) {
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
	return newDatabase(stdlib.OpenDB(*config), f), nil
}
