// Package source has the sources of tables that ask databases, directories and
// servers of maps. It is apart from the rest of lka because of the libraries
// that it brings: the daemon has it open its tables, and no other program and
// no test of another component has to be built with them.
//
// What must never happen here: an error that becomes "not there"; a key that
// becomes a part of a query, a filter, a command or a line instead of a value
// in it.
package source
