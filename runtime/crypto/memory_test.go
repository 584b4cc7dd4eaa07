package crypto

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"smtpd/runtime/imsg"
)

// The processes of TestKeyIsNowhereElse are this program, started again with
// a part to play.
const partVariable = "SMTPD_TEST_PART"

var parts = map[string]func(args []string) error{
	"make":   partMake,
	"crypto": partCrypto,
	"smtp":   partSMTP,
	"search": partSearch,
}

func TestMain(m *testing.M) {
	part, ok := parts[os.Getenv(partVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := part(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// play returns the command that plays a part; files are its descriptors from
// 3 on.
func play(part string, args []string, files ...*os.File) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), partVariable+"="+part)
	c.Stderr = os.Stderr
	c.ExtraFiles = files
	return c
}

// partMake writes a key and its certificate: args are the folder and the kind.
func partMake(args []string) error {
	_, _, err := makePair(args[0], args[1])
	return err
}

func inherited(fd uintptr) (imsg.Conn, error) {
	c, err := stream(os.NewFile(fd, "link"))
	if err != nil {
		return nil, err
	}
	return imsg.NewUnix(c), nil
}

// partCrypto is the component: descriptor 3 is the key, 4 the link to smtp; mta
// is not there.
func partCrypto(args []string) error {
	chain, err := ReadChain(args[0])
	if err != nil {
		return err
	}
	link, err := inherited(4)
	if err != nil {
		return err
	}
	nobody, mta := imsg.Pipe()
	defer nobody.Close()
	key := Key{Name: "test", Public: chain.Leaf.PublicKey, File: os.NewFile(3, "key"), Server: true}
	return Main(context.Background(), Config{Keys: []Key{key}, SMTP: link, MTA: mta})
}

// partSMTP is a TLS server: descriptor 3 is the link to crypto, 4 the client.
// It echoes until the client is gone.
func partSMTP(args []string) error {
	chain, err := ReadChain(args[0])
	if err != nil {
		return err
	}
	link, err := inherited(3)
	if err != nil {
		return err
	}
	peer := imsg.NewPeer(link, nil)
	go peer.Run(context.Background())
	chain.PrivateKey = NewClient(peer).Signer("test", chain.Leaf.PublicKey)
	client, err := stream(os.NewFile(4, "client"))
	if err != nil {
		return err
	}
	server := tls.Server(client, &tls.Config{Certificates: []tls.Certificate{chain}})
	_, err = io.Copy(server, server)
	return err
}

// partSearch prints which processes have the key of a file in their memory,
// one word a line: the process, and "text" or "key" for what was found.
// args are the file and the processes.
func partSearch(args []string) error {
	text, secrets, err := traces(args[0])
	if err != nil {
		return err
	}
	for _, pid := range args[1:] {
		foundText, foundKey := false, false
		err := eachMapping(pid, func(memory []byte) {
			contains := func(s []byte) bool { return bytes.Contains(memory, s) }
			foundText = foundText || contains(text)
			foundKey = foundKey || slices.ContainsFunc(secrets, contains)
		})
		if err != nil {
			return err
		}
		if foundText {
			fmt.Println(pid, "text")
		}
		if foundKey {
			fmt.Println(pid, "key")
		}
	}
	return nil
}

// traces returns what gives away the key in a file: its base64, and the
// numbers that it is made of, in both orders of bytes.
func traces(path string) (text []byte, secrets [][]byte, err error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	lines := bytes.Split(file, []byte("\n"))
	key, err := parseKey(file)
	if err != nil {
		return nil, nil, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		secrets = [][]byte{key.D.Bytes(), key.Primes[0].Bytes(), key.Primes[1].Bytes()}
	case *ecdsa.PrivateKey:
		secret, err := key.Bytes()
		if err != nil {
			return nil, nil, err
		}
		secrets = [][]byte{secret}
	case ed25519.PrivateKey:
		secrets = [][]byte{key.Seed()}
	}
	for _, s := range secrets {
		s = slices.Clone(s)
		slices.Reverse(s)
		secrets = append(secrets, s)
	}
	return lines[1], secrets, nil
}

// eachMapping calls f with every part of a process's memory that can be read.
func eachMapping(pid string, f func([]byte)) error {
	maps, err := os.Open("/proc/" + pid + "/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	memory, err := os.Open("/proc/" + pid + "/mem")
	if err != nil {
		return err
	}
	defer memory.Close()
	scan := bufio.NewScanner(maps)
	for scan.Scan() {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(scan.Text(), "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' {
			continue // such as [vsyscall], above what an int64 holds
		}
		b := make([]byte, to-from)
		if n, err := memory.ReadAt(b, from); n > 0 || err == nil {
			f(b[:n])
		}
	}
	return scan.Err()
}

// TestKeyIsNowhereElse starts crypto and a TLS server as processes, as a
// parent that opens the key and reads none of it, and has a third process
// search their memory, and this one's, for the key after a handshake.
func TestKeyIsNowhereElse(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is searched by /proc of Linux")
	}
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		t.Run(kind, func(t *testing.T) { keyIsNowhereElse(t, kind) })
	}
}

func keyIsNowhereElse(t *testing.T, kind string) {
	dir := t.TempDir()
	if err := play("make", []string{dir, kind}).Run(); err != nil {
		t.Fatal("make:", err)
	}
	key, cert := dir+"/"+kind+".key", dir+"/"+kind+".crt"
	open := Open
	if os.Geteuid() != 0 {
		open = os.Open // the file is not root's
	}
	file, err := open(key)
	if err != nil {
		t.Fatal(err)
	}
	a, b, err1 := socketpair()
	outside, inside, err2 := socketpair()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	pids := []string{fmt.Sprint(os.Getpid())}
	for _, c := range []*exec.Cmd{play("crypto", []string{cert}, file, a), play("smtp", []string{cert}, b, inside)} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			c.Process.Kill()
			c.Wait()
		})
		pids = append(pids, fmt.Sprint(c.Process.Pid))
	}
	for _, f := range []*os.File{file, a, b, inside} {
		f.Close()
	}
	echo(t, outside)

	var found bytes.Buffer
	search := play("search", append([]string{key}, pids...))
	var complaint bytes.Buffer
	search.Stdout, search.Stderr = &found, &complaint
	if err := search.Run(); err != nil {
		if os.Geteuid() != 0 && strings.Contains(complaint.String(), "permission denied") {
			t.Skipf("who is not root may not read the memory of other processes: %s", &complaint)
		}
		t.Fatalf("search: %v: %s", err, &complaint)
	}
	// That crypto has the key shows that the search can find one. The text it
	// has wiped.
	if want := pids[1] + " key\n"; found.String() != want {
		t.Errorf("test %s, crypto %s, smtp %s: found\n%swant\n%s", pids[0], pids[1], pids[2], &found, want)
	}
}

// echo does a handshake as a client and has a line come back.
func echo(t *testing.T, f *os.File) {
	t.Helper()
	c, err := stream(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if _, err := io.WriteString(client, "NOOP\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(client).ReadString('\n'); err != nil || line != "NOOP\r\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	if state := client.ConnectionState(); len(state.PeerCertificates) != 1 {
		t.Fatal("no certificate")
	}
}
