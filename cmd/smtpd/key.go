package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"smtpd/compile"
)

// keySize is the length of a key of queue encryption, in bytes.
const keySize = 32

// queueKey returns the key of queue encryption: from the configuration, from
// the first line of standard input where the configuration says stdin or "-",
// and else from the terminal. Without encryption it is empty.
func queueKey(q *compile.Queue, stdin *os.File) (string, error) {
	if !q.Encryption {
		return "", nil
	}
	key := q.Key
	switch {
	case q.KeyFromInput():
		line, err := bufio.NewReader(io.LimitReader(stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("queue encryption: key on standard input: %w", err)
		}
		key = strings.TrimSuffix(line, "\n")
	case key == "" && term.IsTerminal(int(stdin.Fd())):
		fmt.Fprint(os.Stderr, "queue key: ")
		typed, err := term.ReadPassword(int(stdin.Fd()))
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return "", fmt.Errorf("queue encryption: key from the terminal: %w", err)
		}
		key = string(typed)
	case key == "":
		return "", errors.New("queue encryption has no key: write one into the configuration, say stdin, or start smtpd from a terminal")
	}
	if len(key) != keySize {
		return "", fmt.Errorf("queue encryption: the key has %d bytes, not %d", len(key), keySize)
	}
	return key, nil
}
