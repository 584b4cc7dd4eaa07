// Package proc owns how the components of the daemon are started, under which
// account they run, and how they are stopped. cmd/smtpd calls it; it knows no
// component by name.
//
// What must never happen here: a byte from the network read while the process
// may still become root again; two daemons on one spool.
package proc
