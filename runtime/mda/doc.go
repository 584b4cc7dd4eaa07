// Package mda is the component that delivers mail to local users.
//
// User: unprivileged. Root directory: empty. Promises: descriptors and
// messages only; files, commands and sockets are parent's.
//
// Peers: queue hands it batches (it serves queue.Deliverer) and opens
// messages; lka resolves users; parent carries deliveries out.
//
// It keeps of the Ruleset the local actions, the wrappers, the sub-address
// delimiter and the limits of mda.
//
// For each envelope it finds the account, looks for a loop, writes the lines
// that go before the message, expands the format specifiers of the action,
// waits its turn among the users that have mail, and has parent deliver.
//
// # Never
//
//   - more sessions than mda's limits say, in all or for one user, nor one user
//     with much mail in the way of one with little,
//   - a value of an envelope in a command or a path other than as letters,
//     digits and @._+=:,- (see expand),
//   - a failure that is the system's made one of the mail's.
package mda
