// Package parent is the component that acts on behalf of users: it stores a
// message in a maildir or an mbox, runs a delivery command, hands a message to
// an LMTP server, and opens a ~/.forward.
//
// User: root, or any account; see Identity below. Root directory: none.
// Promises: it needs to read and write files, fork and exec, and connect to
// LMTP servers.
//
// Peers: mfa asks for the .forward of a user, for filters to be started and
// milters to be called, mda for deliveries, lka for passwords of the system's accounts to be
// checked, control for a reload or the end; all through Client. It calls no component. It keeps nothing of the Ruleset but
// where programs and milters are: what is to be done comes expanded and checked
// in each Delivery.
//
// # Identity
//
// As root, in a daemon of several processes, this one touches no file of a
// user. It starts a process that is the user from its first instruction on,
// with the user's group and no other, and passes requests on to it; the process
// serves them with this same package, is kept for some seconds for the next,
// and ends with the connection. What it answers is what the user could answer:
// a descriptor that is no file of that user is not passed on. The one thing
// that root does for a user is to make an empty mailbox in /var/mail, where the
// user could not.
//
// On Linux mailboxes are written, and .forward files opened, by one process for
// all users, the courier: to start a process costs more than to write many
// messages. It is the daemon's account, may act for other users than root, and
// has no other right: its sandbox (role courier) leaves it files, and takes
// programs, sockets and every way to become root. For each request a thread
// takes the user's place in the file system, so the kernel judges what it may
// open as it would for the user's own process.
//
// LMTP touches no file, so one process speaks it for all users, too, and keeps
// its sessions: the daemon's account in a sandbox of its own (role lmtp). Only
// if it may not use a server's socket the user's own process tries. That is
// also for commands.
//
// A process that is not root can deliver only as itself, so a delivery whose
// account has another user id is put off with a text that names both ids. It
// is never run as someone else: a command from a .forward would otherwise run
// with the rights of the daemon, which owns everybody's queued mail. To try the
// daemon without root, give the users of a userbase the id it runs as.
//
// Nothing is delivered as user id 0.
//
// Behind a wrapper the method is a command too: this program, which delivers
// its standard input (RunAgent) as whoever the wrapper runs it.
//
// # Paths
//
// A path below the directory in which the daemon was started is opened relative
// to it. It therefore works for an account that may not walk there from the
// root of the file system, because the daemon keeps its working directory when
// it gives up root. The home of an account may be written relative to that
// directory as well.
//
// # Never
//
//   - run or store anything as user id 0,
//   - tell a hash, or more of a password than whether it is right,
//   - follow a symbolic link or read a file of another user for a .forward,
//   - let a file appear in new/ of a maildir before it is complete and synced,
//   - put into a shell command anything but what the configuration or the
//     user's own .forward said; the values of the envelope that are part of it
//     were whitelisted by mda, those of the environment are not shell text,
//   - wait longer than the time limit for a command: its process group is
//     killed then.
package parent
