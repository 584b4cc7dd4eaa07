// Package expand turns one recipient into deliveries: it lets the rules
// decide about an address, follows aliases, virtual maps and .forward files,
// and says what is left in the end (language.md 5.7, runtime.md 3).
//
// It is pure. Whatever it has to know it asks a World: the daemon's mfa asks
// its peers, smtpd-check asks the tables that are at hand (AtHand). So what
// smtpd-check explains and tests is decided by the same steps.
//
// A recipient is accepted whole or refused whole: the first node that fails
// fails it. What must never happen here is that a lookup which fails becomes
// a permanent refusal, or that a command or a path is taken from an address.
package expand
