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
	{
		Word:    "max-errors",
		Syntax:  `"smtp" "limit" "max-errors" number`,
		Example: "smtp limit max-errors 20",
	},
	{
		Word:    "max-commands",
		Syntax:  `"smtp" "limit" "max-commands" number`,
		Example: "smtp limit max-commands 200",
	},
	{
		Word:    "max-auth-failures",
		Syntax:  `"smtp" "limit" "max-auth-failures" number`,
		Example: "smtp limit max-auth-failures 1",
	},
	{
		Word:    "max-time-without-mail",
		Syntax:  `"smtp" "limit" "max-time-without-mail" number`,
		Example: "smtp limit max-time-without-mail 600",
	},
	{
		Word:    "max-auth-failures-per-source",
		Syntax:  `"smtp" "limit" "max-auth-failures-per-source" number`,
		Example: "smtp limit max-auth-failures-per-source 5",
	},
	{
		Word:    "max-sessions",
		Syntax:  `"smtp" "limit" "max-sessions" number`,
		Example: "smtp limit max-sessions 5000",
	},
	{
		Word:    "max-idle-time",
		Syntax:  `"smtp" "limit" "max-idle-time" number`,
		Example: "smtp limit max-idle-time 600",
	},
	{
		Word:    "min-rate",
		Syntax:  `"smtp" "limit" "min-rate" number`,
		Example: "smtp limit min-rate 1024",
	},
	{
		Word:    "greeting-delay",
		Syntax:  `"smtp" "limit" "greeting-delay" number`,
		Example: "smtp limit greeting-delay 3",
	},
	{
		Word:    "only-from",
		Syntax:  `"listen" … "proxy-v2" "only-from" table`,
		Example: "listen on 127.0.0.1 proxy-v2 only-from { 192.0.2.7, 192.0.2.64/28 }",
	},
	{
		Word:    "bare-lf-from",
		Syntax:  `"smtp" "bare-lf-from" table`,
		Example: "smtp bare-lf-from { 192.0.2.7, 192.0.2.64/28 }",
	},
	{
		Word:    "metrics",
		Syntax:  `"listen" "metrics" "on" address "port" number`,
		Example: "listen metrics on 127.0.0.1 port 9325",
	},
	{
		Word:    "milter",
		Syntax:  `"filter" string "milter" string`,
		Example: `filter "sign" milter "inet:127.0.0.1:8891"`,
	},
	{
		Word:    "on-failure",
		Syntax:  `"filter" string ( "proc" | "proc-exec" | "milter" ) string … "on-failure" "bypass"`,
		Example: `filter "count" proc-exec "/usr/libexec/filter-count" on-failure bypass`,
	},
}

// Extends reports whether word is one of ours.
func Extends(word string) bool {
	return slices.ContainsFunc(Extensions, func(e Extension) bool { return e.Word == word })
}
