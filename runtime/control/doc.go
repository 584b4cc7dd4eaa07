// Package control is the gateway to the outside: the sockets on which local
// programs reach the daemon.
//
//	purpose   local submission for everyone, questions of the administrator
//	user      an unprivileged one; as a process of its own: _smtpd
//	peers     smtp (local sessions, pause), queue (lists, orders, content),
//	          lka (updates of tables, lookups), mfa (why it has decided),
//	          mta (routes, orders), parent (reload, stop,
//	          what all processes have counted, traces)
//	sockets   submit.sock, for every user: Session; control.sock, for root and
//	          the daemon's own account: all requests
//	metrics   where the configuration says so, GET /metrics over HTTP: what was
//	          counted, for whoever reaches the address
//	keeps     what the rules are called, of the Ruleset nothing
//
// There are two sockets so that what every user may write to is not what the
// administrator needs when things go wrong. A client is told apart by its
// peer credentials, never by what it says.
//
// What must never happen here: input that ends more than its own connection;
// one user who takes all connections; a request that is answered for someone
// who may not make it; a way from the metrics listener to anything but numbers.
package control
