// Package web is the page that `smtpctl web` shows: the queue, why mail waits,
// what the rules decide, what is delivered and what fails, tables, filters and
// certificates.
//
// It is a client of the daemon as smtpctl is. All that it knows it asks for on
// the administrator's socket while somebody looks, but for a few numbers that
// it writes down every few seconds for the plots. It keeps no list: of a long
// queue it has counts for some destinations, however many there are.
//
// Who may read has a token, or is on a Unix socket the same user; who may
// change something has a second one, which exists only if it was asked for. A
// page is served to loopback and to Unix sockets only, under the names of this
// host only, so that a page of somebody else that a browser shows can neither
// read nor write here.
//
// What must never happen here: an answer to someone without a token but that
// one is needed; a change by GET, without the second right, or from another
// page; a way to stop the service or to have it go by another configuration;
// text of a remote host that becomes markup.
package web
