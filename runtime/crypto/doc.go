// Package crypto is the component that holds the private keys: it signs for
// smtp and mta, which talk to the network and therefore hold none.
//
//	purpose   the private half of every TLS handshake
//	user      an unprivileged one; as a process of its own: _smtpd, in an empty root
//	promises  messages; no file, no socket, no program
//	peers     smtp and mta (they ask)
//	messages  in: sign, decrypt
//	keeps     of the Ruleset nothing; the keys that pki names, and who may use them
//
// # Where a key is
//
// The parent opens the file of a key, as root, and judges it by its owner and
// its mode (Open); it reads none of it. The descriptor goes to this component,
// which alone reads the bytes and wipes what it read once the key is parsed.
// smtp and mta get certificates, whose private key is a Signer that asks.
// In one process all of that memory is shared, so this protects nobody there;
// the code is the same.
//
// # What may be asked
//
// A request names a key by the hash of its public half. It is answered if the
// configuration gives that key to the asking component: smtp signs with the
// keys of its listeners, as a server; mta with those of relay actions, as a
// client. What is signed must be what a TLS handshake signs: a digest of one of
// its hash functions, in one of its paddings, or, for Ed25519, which takes no
// digest, text of the form of a handshake (see handshakeText). The one thing
// that is decrypted is the secret of an RSA key exchange, and the answer to a
// secret that was malformed is a random one (RFC 5246, section 7.4.7.1), so that
// a component that was taken over learns no more here than its peers do.
//
// # What must never happen here
//
//   - a key, or anything that helps to guess it, in a message or in a log,
//   - a request answered for a component that the key was not given to,
//   - a text signed that its asker made up, other than as a handshake,
//   - a request, however malformed, that ends more than itself.
package crypto
