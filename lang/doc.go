// Package lang turns the text of a configuration into a tree.
//
// Bytes become tokens in the lexer, which owns everything that happens below
// the grammar: blanks, comments, continued lines, quotes, numbers, macros,
// the stack of included files, and the separators between braces. Tokens
// become statements in the parser, one statement at a time, so that a
// mistake costs the statement it is in and nothing else. Parse does both;
// Format works on the tokens alone and keeps what the tree forgets.
//
// The grammar is written once, as the struct tags of package ast. participle
// reads them and is the reference; grammar.ebnf is printed from it, and what
// messages say was expected is computed from it. A hand-written parser of
// the same grammar does the everyday work because it is some thirty times as
// fast; a fuzz test holds the two together.
//
// Scan hands out the tokens of the older generations of the language, whose
// grammars are in packages below this one.
//
// The package knows no meaning: a name is a string here, and whether it was
// declared is for package compile to say. It reads no file but the ones that
// it is given and that are included.
//
// No input makes it fail: what cannot be read becomes a diagnostic, and the
// statement that held it an ast.Bad. Memory and time are linear in the size
// of the input, and both are bounded (see limits).
package lang

//go:generate go run ./internal/ebnfgen ../grammar.ebnf
