// Package mta is the component that sends mail to other hosts.
//
// User: unprivileged. Root directory: empty. Promises: connects to the
// network, receives descriptors.
//
// Peers: queue hands it batches (it serves queue.Deliverer) and opens
// messages; lka answers for tables, DNS and MTA-STS policies; mfa passes on to
// filters what happens; control gives the administrator's orders.
//
// It keeps of the Ruleset the relay actions, certificates and authorities, the
// limits of mta, the key of sender rewriting, and what tells this host apart
// from others: its name, its addresses and its listeners.
//
// # How mail goes out
//
// A batch, one message for one destination, becomes a task of a relay: the
// place that the action and the destination name. A relay has as many sessions
// as its tasks need and the limits allow; each takes one task after another
// and stays open for a while when there are none. A session begins with the
// best host that is not known to fail. A recipient that one host puts off is
// offered to the others before the queue is told.
//
// # Never
//
//   - credentials in clear, or clear text where TLS is asked for,
//   - anything that a host said before TLS believed after it,
//   - a line of a reply as anything but text: it is bounded, made printable and
//     a value in logs and results,
//   - the final dot after content that could not be read to its end,
//   - a message sent again by itself once the final dot was sent,
//   - a host that is dead in the way of one that is not.
package mta
