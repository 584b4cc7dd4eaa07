package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"modernc.org/sqlite" // nothing else imports it, as it takes long to compile
	lib "modernc.org/sqlite/lib"

	"smtpd/compile/engine"
	"smtpd/compile/tableconf"
	"smtpd/runtime/lka/backend"
)

// A fileDatabase is a database that is a file. It is only read: lka may not
// write, and no lookup has to.
//
// One with a write-ahead log is an exception: whoever opens it makes files
// beside it, unless somebody has it open who did. While nobody has, nobody
// writes either, and it can be read as a file that does not change; whether
// that was so is looked at before and after.
type fileDatabase struct {
	*database
	still *database
	path  string
}

func newSQLite(_ string, f *tableconf.File) (backend.Source, error) {
	path := f.Value("dbpath")
	db, err := openFile(path, f, nil)
	if err != nil {
		return nil, err
	}
	still, err := openFile(path, f, url.Values{"immutable": {"1"}})
	if err != nil {
		return nil, err
	}
	still.db.SetMaxIdleConns(0) // it may change between two questions
	return &fileDatabase{db, still, path}, nil
}

func openFile(path string, f *tableconf.File, more url.Values) (*database, error) {
	options := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	for key, values := range more {
		options[key] = values
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}).String())
	if err != nil {
		return nil, err
	}
	return newDatabase(db, f), nil
}

func (d *fileDatabase) Close() {
	d.database.Close()
	d.still.Close()
}

func (d *fileDatabase) Check(ctx context.Context, s engine.Service, key string) (found bool, err error) {
	err = d.ask(func(db *database) (err error) {
		found, err = db.Check(ctx, s, key)
		return err
	})
	return found && err == nil, err
}

func (d *fileDatabase) Lookup(ctx context.Context, s engine.Service, key string) (value string, ok bool, err error) {
	err = d.ask(func(db *database) (err error) {
		value, ok, err = db.Lookup(ctx, s, key)
		return err
	})
	if err != nil {
		return "", false, err
	}
	return value, ok, nil
}

func (d *fileDatabase) List(ctx context.Context, s engine.Service) (list []string, err error) {
	err = d.ask(func(db *database) (err error) {
		list, err = db.List(ctx, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (d *fileDatabase) Update(ctx context.Context) error {
	return d.ask(func(db *database) error { return db.Update(ctx) })
}

// ask asks the database as it has to be opened.
func (d *fileDatabase) ask(f func(db *database) error) error {
	err := f(d.database)
	var failure *sqlite.Error
	if !errors.As(err, &failure) || failure.Code() != lib.SQLITE_READONLY_DIRECTORY && failure.Code()&0xff != lib.SQLITE_CANTOPEN {
		return err
	}
	before, unsure := d.resting()
	if unsure != nil {
		return fmt.Errorf("%w (%w)", err, unsure)
	}
	if err := f(d.still); err != nil {
		return err
	}
	after, err := d.resting()
	if err == nil && !(os.SameFile(before, after) && before.Size() == after.Size() && before.ModTime().Equal(after.ModTime())) {
		err = errors.New("the database changed while it was read")
	}
	return err
}

// resting returns what the file is like, if it has no log beside it.
func (d *fileDatabase) resting() (fs.FileInfo, error) {
	if info, err := os.Stat(d.path + "-wal"); err == nil && info.Size() > 0 {
		return nil, errors.New("somebody writes it, and has not let others read its log")
	}
	return os.Stat(d.path)
}
