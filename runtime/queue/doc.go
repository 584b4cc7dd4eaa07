// Package queue owns accepted mail from the moment of the 250 reply until
// every copy of it is delivered, reported or removed.
//
// User: _smtpq. Root directory: the spool.
//
// Peers: smtp (creates, commits and rolls back messages), mfa (submits the
// envelopes of a message that is being received; is asked to resolve the
// recipients of reports), mda and mta (are handed batches; open messages),
// control (lists and manages).
//
// Keeps of the Ruleset: the names, methods and lifetimes of actions, the
// limits of the scheduler, of mda and of mta, the ages of delay reports and
// how mail is stored.
//
// # The life of a message
//
// Create chooses an id; Submit collects envelopes in memory. Content waits for
// the commit where it comes from, and goes to a file of the Store as far as it
// is large. Nothing of this survives a crash, and nothing of it is ever
// delivered. Commit gives content and envelopes to the Store in one batch
// and returns when that is on disk; commits that wait at the same time share
// one flush. Only then may anyone say 250. The scheduler then owns the
// envelopes: it hands them to agents in batches, writes down what became of
// them, and makes reports.
//
// # What must never happen here
//
//   - A Commit returns nil and the mail is not on disk.
//   - An envelope leaves the store without having been delivered, reported,
//     logged as not reportable, or removed by the administrator.
//   - An envelope is with two agents at once.
//   - A record that cannot be read stops the service: it is reported and set
//     aside.
//   - The process goes on after a write to the log of the store has failed:
//     what was answered before and what is on disk would part ways.
package queue
