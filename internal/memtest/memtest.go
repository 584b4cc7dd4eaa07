// Package memtest searches the memory of processes for private keys. It is
// test support, for Linux.
package memtest

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
)

// Traces returns what gives a private key away: the numbers that it is made
// of, in both orders of their bytes.
func Traces(private crypto.PrivateKey) ([][]byte, error) {
	var secrets [][]byte
	switch key := private.(type) {
	case *rsa.PrivateKey:
		secrets = [][]byte{key.D.Bytes(), key.Primes[0].Bytes(), key.Primes[1].Bytes()}
	case *ecdsa.PrivateKey:
		secret, err := key.Bytes()
		if err != nil {
			return nil, err
		}
		secrets = [][]byte{secret}
	case ed25519.PrivateKey:
		secrets = [][]byte{key.Seed()}
	default:
		return nil, fmt.Errorf("no traces of a %T are known", private)
	}
	for _, s := range secrets {
		s = slices.Clone(s)
		slices.Reverse(s)
		secrets = append(secrets, s)
	}
	return secrets, nil
}

// Find reports which of some sets of secrets the memory of a process holds a
// member of. It needs the right to trace that process, which root has.
func Find(pid int, sets ...[][]byte) ([]bool, error) {
	found := make([]bool, len(sets))
	err := eachRun(pid, func(memory []byte) {
		for i, set := range sets {
			found[i] = found[i] || slices.ContainsFunc(set, func(s []byte) bool { return bytes.Contains(memory, s) })
		}
	})
	return found, err
}

// eachRun calls f with every run of pages that a process can read and uses.
func eachRun(pid int, f func(memory []byte)) error {
	var files [3]*os.File
	for i, name := range [...]string{"maps", "mem", "pagemap"} {
		file, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return err
		}
		defer file.Close()
		files[i] = file
	}
	maps, memory, pages := files[0], files[1], files[2]
	size := int64(os.Getpagesize())
	for scan := bufio.NewScanner(maps); scan.Scan(); {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(scan.Text(), "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' {
			continue // such as [vsyscall], above what an int64 holds
		}
		used := make([]byte, (to-from)/size*entrySize)
		if _, err := pages.ReadAt(used, from/size*entrySize); err != nil && err != io.EOF {
			return err
		}
		for from < to {
			n := int64(0)
			for from+n < to && isUsed(used[n/size*entrySize:]) {
				n += size
			}
			if n > 0 {
				b := make([]byte, n)
				m, _ := memory.ReadAt(b, from) // pages may have gone since
				f(b[:m])
			}
			used = used[n/size*entrySize:]
			from += n
			for len(used) > 0 && !isUsed(used) {
				used = used[entrySize:]
				from += size
			}
		}
	}
	return nil
}

// entrySize is the size of what the pagemap of a process says of a page.
const entrySize = 8

// isUsed reports whether the page of an entry is in memory or swapped out.
func isUsed(entry []byte) bool { return binary.NativeEndian.Uint64(entry)>>62 != 0 }
