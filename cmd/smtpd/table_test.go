package main

import (
	"database/sql"

	"github.com/rogpeppe/go-internal/testscript"
)

// sqlite runs the statements in a file on a database, which it makes if there
// is none.
func sqlite(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sqlite database file")
	}
	db, err := sql.Open("sqlite", ts.MkAbs(args[0])) // lka has brought the driver
	ts.Check(err)
	defer db.Close()
	_, err = db.Exec(ts.ReadFile(args[1]))
	ts.Check(err)
}
