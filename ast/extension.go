package ast

import "slices"

// An Extension is a word of ours, which OpenSMTPD does not know. It is never
// reserved: it is matched by its text, and only where the grammar can take
// no string, or takes the name of a limit. So a file of OpenSMTPD means what
// it always meant, whatever it calls its tables, macros and actions.
type Extension struct {
	Word    string
	Syntax  string // in the notation of the published grammar
	Example string // a statement with it
}

// Extensions lists our words. The published grammar marks them, and a test
// holds each to what is promised above.
var Extensions = []Extension{
	{
		Word:    "max-conn-per-source",
		Syntax:  `"smtp" "limit" "max-conn-per-source" number`,
		Example: "smtp limit max-conn-per-source 20",
	},
}

// Extends reports whether word is one of ours.
func Extends(word string) bool {
	return slices.ContainsFunc(Extensions, func(e Extension) bool { return e.Word == word })
}
