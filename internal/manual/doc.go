// Package manual holds the manual pages to the programs: what the grammar knows
// is written into smtpd.conf(5) from it, and every word, option and command has
// to be described. There is nothing in it but tests.
package manual
