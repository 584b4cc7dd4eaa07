// Package analyze answers questions about a rule table: why a transaction is
// decided as it is (Explain), which rules can never decide anything (Dead),
// who can send mail out through the host (Relay), and what a change of the
// table changes (Diff).
//
// A question about all transactions is answered by splitting regions. A
// region is what some transactions have in common: for each field of a
// transaction the tables it must pass and those it must not. For a region
// one transaction in it is made and given to the engine. The rule that
// decides it decides all of the region that it covers, and what it does not
// cover is a handful of smaller regions. So the engine itself finds what
// matters, no region is looked at that no rule tells apart, and whatever is
// claimed to be possible comes with a transaction that was decided.
//
// What is claimed to be impossible comes with a Proof, the tree of the
// splits, and Verify checks it without the search.
//
// A table that has to be asked may hold anything and may be down; the same
// question to it has the same answer. The package opens nothing.
package analyze
