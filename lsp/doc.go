// Package lsp is a language server for configurations: it speaks the Language
// Server Protocol over two streams, and answers from package lang and package
// compile. smtpd-check lsp is its only caller.
//
// It owns the documents that are open in the editor. After every change it
// reads all of them anew, so that there is no state to be wrong: a document
// that another one includes is judged as a part of that one, with the text
// in the editor instead of the one on disk. What depends on a host is said to
// depend on it. The types are those of the few messages that are used.
//
// Nothing that a client sends makes it fail but what is no message at all;
// sizes have limits, and positions outside the text mean its end.
package lsp
