// Package analyze answers questions about a rule table: why a transaction is
// decided as it is (Explain), which rules can never decide anything
// (Reachable), and who can send mail out through the host (Relay).
//
// A question about all transactions is answered by splitting regions. A
// region is what some transactions have in common: criteria of rules that
// hold, and criteria that do not. For a region one transaction in it is made
// and given to the engine. The rule that decides it decides all of the
// region that it covers, and what it does not cover is a handful of smaller
// regions. So the engine itself finds what matters, and whatever is claimed
// to be possible comes with a transaction that was decided.
//
// A table that has to be asked may hold anything; the same question to it
// has the same answer. That it may be down only Diff looks at, elsewhere it is
// left out: a temporary failure accepts nothing. Addresses have both parts, but for the null sender.
// Patterns with a star elsewhere than before a dot, and expressions, are
// tried with examples only; if none does, the answer is that it is not
// known. The package opens nothing.
package analyze
