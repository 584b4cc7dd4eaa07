// Package backend is for tables outside of this process. A Source asks once,
// and may fail or hang; a Table stands before it and makes of that something
// that mail can rely on: every answer has a deadline, only so many questions are
// under way, equal ones are asked once, and answers are remembered for a while.
// The Source of a Program is here; those of databases and directories are in
// package source.
//
// What must never happen here: an error that becomes "not there", or is
// remembered; a key that becomes a line; a source that has others wait.
package backend
