// Package policy runs tests of a rule table. A test describes a transaction
// and says how it is to be decided; smtpd-check test reads them from files
// beside the configuration and docs/policy-tests.md shows their language.
//
// Read reads a file, Bind joins it to a Ruleset, Run decides its tests by the
// engine of the daemon and counts what they cover, and Mutate finds changes
// of the rule table that no test notices, with tests that would. Where the
// reply is expected the recipient is expanded by the steps of the daemon.
//
// Tables are never asked: one whose content is not in the Ruleset fails
// until the file gives it. The package opens nothing.
package policy
