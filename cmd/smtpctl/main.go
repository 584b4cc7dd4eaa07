// Command smtpctl asks the running daemon and gives it orders. Under the name
// of sendmail or mailq it does what these programs do elsewhere.
package main

import (
	"os"
	"path/filepath"

	"smtpd/internal/ctl"
)

func main() { os.Exit(ctl.Main(filepath.Base(os.Args[0]), os.Args[1:])) }
