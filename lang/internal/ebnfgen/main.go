// Command ebnfgen writes the grammar of the language to the file that is its
// argument. It is run by go generate.
package main

import (
	"fmt"
	"os"

	"smtpd/lang"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: ebnfgen FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(lang.Grammar()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
