package backend

import (
	"database/sql"
	"net/url"

	_ "modernc.org/sqlite" // the driver "sqlite"; nothing else imports it, as it takes long to compile

	"smtpd/compile/tableconf"
)

// newSQLite returns a database that is a file. It is only read: lka may not
// write, and no lookup has to.
func newSQLite(_ string, f *tableconf.File) (Source, error) {
	u := url.URL{Scheme: "file", Path: f.Value("dbpath"), RawQuery: url.Values{
		"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)"},
	}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	return newDatabase(db, f), nil
}
