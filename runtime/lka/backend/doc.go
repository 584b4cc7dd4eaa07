// Package backend asks what keeps tables outside of this process: databases,
// directories, servers of maps, and programs. Each kind is a Source, which
// asks once and may fail or hang; a Table stands before it and makes of that
// something that mail can rely on: every answer has a deadline, only so many
// questions are under way, equal ones are asked once, and answers are
// remembered for a while.
//
// lka opens the tables and asks them. What a table was told in its file comes
// with the configuration and was read by those who may.
//
// What must never happen here: an error that becomes "not there", or is
// remembered; a key that becomes a part of a query, a filter, a command or a
// line instead of a value in it; a source that has others wait.
package backend
