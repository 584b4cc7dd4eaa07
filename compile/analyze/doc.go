// Package analyze answers questions about a rule table: why a transaction is
// decided as it is (Explainer) and what its recipient comes to (Expand), which
// rules can never decide anything (Reachable), who can send mail out through
// the host (Relay), and what two tables decide differently (Diff). What the
// last two call proved, package certificate has agreed to.
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
// has the same answer. That it may be down only Diff looks at, elsewhere it
// is left out: a temporary failure accepts nothing. Addresses have both
// parts, but for the null sender.
//
// Exact names, networks and one-label wildcards are cut into cells, of which
// one value each is tried. For other patterns and expressions examples are
// tried, and then the product of their automata decides, within a budget:
// beyond it the answer is that it is not known. What a certificate is to
// prove does not rest on automata, as its checker knows none. The package
// opens nothing.
package analyze
