// Command portable checks that the tree, with its tests, compiles for systems
// other than this one:
//
//	go run ./internal/portable [system/machine ...]
//
// It checks types and generates no code: go vet for another system compiles
// every dependency and the standard library first, which takes ten times as
// long for each.
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/packages"
)

// targets are where the daemon is meant to run, and one with short words.
var targets = []string{"openbsd/amd64", "freebsd/amd64", "netbsd/amd64", "darwin/arm64", "linux/arm64", "linux/386"}

func main() {
	if len(os.Args) > 1 {
		targets = os.Args[1:]
	}
	status := 0
	for _, target := range targets {
		n, err := check(target)
		switch {
		case err != nil:
			fmt.Fprintf(os.Stderr, "%s: %v\n", target, err)
			status = 1
		case n > 0:
			fmt.Fprintf(os.Stderr, "%s: %d errors\n", target, n)
			status = 1
		default:
			fmt.Println(target, "ok")
		}
	}
	os.Exit(status)
}

// check prints the errors of all packages for a target and returns how many
// there are.
func check(target string) (errors int, err error) {
	system, machine, _ := strings.Cut(target, "/")
	list, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax,
		Env:   append(os.Environ(), "GOOS="+system, "GOARCH="+machine, "CGO_ENABLED=0"),
		Tests: true,
	}, "./...")
	if err != nil {
		return 0, err
	}
	if len(list) == 0 {
		return 0, fmt.Errorf("no packages")
	}
	return packages.PrintErrors(list), nil
}
