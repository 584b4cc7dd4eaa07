package crypto

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"smtpd/internal/memtest"
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
	chain, err := readChain(args[0])
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
	chain, err := readChain(args[0])
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
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	key, err := parseKey(text)
	if err != nil {
		return err
	}
	secrets, err := memtest.Traces(key)
	if err != nil {
		return err
	}
	line := bytes.Split(text, []byte("\n"))[1]
	for _, arg := range args[1:] {
		pid, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		found, err := memtest.Find(pid, [][]byte{line}, secrets)
		if err != nil {
			return err
		}
		for i, what := range [...]string{"text", "key"} {
			if found[i] {
				fmt.Println(pid, what)
			}
		}
	}
	return nil
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
