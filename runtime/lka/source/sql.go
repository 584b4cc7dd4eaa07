package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"smtpd/compile/engine"
	"smtpd/compile/tableconf"
	"smtpd/runtime/lka/backend"
)

// maxRows and maxSize bound what is read of an answer, in bytes the latter.
const (
	maxRows = 10000
	maxSize = 1 << 20
)

// idleTime is how long a connection is kept that nobody uses, and lifeTime
// how long any is: a database that moved is found again.
const (
	idleTime = time.Minute
	lifeTime = 10 * time.Minute
)

// A database is a Source that is asked in SQL. The key is always bound.
type database struct {
	db      *sql.DB
	kept    int // connections
	queries map[engine.Service]string
	lists   map[engine.Service]string

	// lost reports whether an error says that the connection is gone, which
	// the driver cannot tell in time from a server that answered; nil: it never
	// is.
	lost func(err error) bool

	// prepared has statements prepared once a connection and not for every
	// question, for drivers that do not do so themselves.
	prepared bool
	mu       sync.Mutex
	stmts    map[string]*sql.Stmt
}

func newDatabase(db *sql.DB, f *tableconf.File) *database {
	d := &database{
		db: db, kept: backend.LimitsOf(f).Connections, stmts: make(map[string]*sql.Stmt),
		queries: perService(f, func(s string) string { return "query_" + s }),
		lists:   perService(f, func(s string) string { return "fetch_" + s }),
	}
	db.SetMaxOpenConns(d.kept)
	db.SetMaxIdleConns(d.kept)
	db.SetConnMaxIdleTime(idleTime)
	db.SetConnMaxLifetime(lifeTime)
	return d
}

func (d *database) Close() { d.db.Close() }

func (d *database) Update(ctx context.Context) error {
	d.drop()
	return d.db.PingContext(ctx)
}

// drop closes the idle connections.
func (d *database) drop() {
	d.db.SetMaxIdleConns(0)
	d.db.SetMaxIdleConns(d.kept)
}

// isText reports whether a key can be in a source whose content is text. Asked
// for another one, servers say that it is a mistake, which it is not: it is not
// there.
func isText(key string) bool { return utf8.ValidString(key) && strings.IndexByte(key, 0) < 0 }

func (d *database) Check(ctx context.Context, s engine.Service, key string) (found bool, err error) {
	if d.queries[s] != "" && !isText(key) {
		return false, nil
	}
	err = d.ask(ctx, d.queries[s], []any{key}, func(rows *sql.Rows) error {
		found = rows.Next()
		return nil
	})
	return found && err == nil, err
}

func (d *database) Lookup(ctx context.Context, s engine.Service, key string) (string, bool, error) {
	if d.queries[s] != "" && !isText(key) {
		return "", false, nil
	}
	rows, err := d.rows(ctx, d.queries[s], []any{key}, columns(s), isList(s))
	if err != nil {
		return "", false, err
	}
	return join(s, rows)
}

func (d *database) List(ctx context.Context, s engine.Service) ([]string, error) {
	rows, err := d.rows(ctx, d.lists[s], nil, 1, true)
	if err != nil {
		return nil, err
	}
	list := make([]string, 0, len(rows))
	for _, r := range rows {
		list = append(list, r[0])
	}
	return list, nil
}

var errNull = errors.New("the answer holds NULL")

// rows returns the rows of an answer, or the first one.
func (d *database) rows(ctx context.Context, query string, args []any, columns int, all bool) (got [][]string, err error) {
	err = d.ask(ctx, query, args, func(rows *sql.Rows) error {
		got = nil
		size := 0
		if names, err := rows.Columns(); err != nil || len(names) != columns {
			return errors.Join(fmt.Errorf("the query returns %d columns, and %d are needed", len(names), columns), err)
		}
		for (all || len(got) == 0) && rows.Next() {
			row, err := scan(rows, columns)
			if err != nil {
				return err
			}
			for _, field := range row {
				size += len(field)
			}
			if got = append(got, row); len(got) > maxRows || size > maxSize {
				return errTooMuch
			}
		}
		return nil
	})
	return got, err
}

func scan(rows *sql.Rows, columns int) ([]string, error) {
	fields := make([]sql.NullString, columns)
	into := make([]any, columns)
	for i := range fields {
		into[i] = &fields[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	row := make([]string, columns)
	for i, f := range fields {
		if !f.Valid {
			return nil, errNull
		}
		row[i] = f.String
	}
	return row, nil
}

// ask has read read the answer to a query. If the connection is lost it asks
// again on a new one: a server that was restarted has closed them all.
func (d *database) ask(ctx context.Context, query string, args []any, read func(rows *sql.Rows) error) error {
	if query == "" {
		return backend.ErrService
	}
	err := d.askOnce(ctx, query, args, read)
	if err != nil && ctx.Err() == nil && d.lost != nil && d.lost(err) {
		d.drop()
		err = d.askOnce(ctx, query, args, read)
	}
	return err
}

// askOnce does so once. An error that comes after the last row that was read
// is one as well.
func (d *database) askOnce(ctx context.Context, query string, args []any, read func(rows *sql.Rows) error) error {
	rows, err := d.query(ctx, query, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	if err := read(rows); err != nil {
		return err
	}
	return rows.Err()
}

func (d *database) query(ctx context.Context, query string, args []any) (*sql.Rows, error) {
	if !d.prepared {
		return d.db.QueryContext(ctx, query, args...)
	}
	d.mu.Lock()
	stmt := d.stmts[query]
	d.mu.Unlock()
	if stmt == nil {
		var err error
		if stmt, err = d.db.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
		d.mu.Lock()
		if other := d.stmts[query]; other != nil { // another was quicker
			defer stmt.Close()
			stmt = other
		}
		d.stmts[query] = stmt
		d.mu.Unlock()
	}
	return stmt.QueryContext(ctx, args...)
}
