package crypto

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"smtpd/runtime/imsg"
)

// kinds make private keys.
var kinds = map[string]func() (crypto.Signer, error){
	"rsa":     sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
	"ecdsa":   func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"p384":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"ed25519": func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err },
}

// makePair writes a key of a kind and a certificate that it signs itself.
func makePair(dir, kind string) (key, cert string, err error) {
	private, err := kinds[kind]()
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mx.example.org"},
		DNSNames:     []string{"mx.example.org"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	key, cert = filepath.Join(dir, kind+".key"), filepath.Join(dir, kind+".crt")
	return key, cert, errors.Join(
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

func readChain(path string) (tls.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, err
	}
	return ParseChain(text)
}

// testKey makes a key and its certificate.
func testKey(t testing.TB, kind string) (Key, tls.Certificate) {
	t.Helper()
	key, cert, err := makePair(t.TempDir(), kind)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := readChain(cert)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	return Key{Name: kind, Public: chain.Leaf.PublicKey, File: f}, chain
}

// socketpair returns the ends of a connection between processes.
func socketpair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b"), nil
}

// stream makes a connection of an end of a socketpair.
func stream(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// wires are the two ways in which components are connected.
var wires = map[string]func(testing.TB) (a, b imsg.Conn){
	"pipe": func(testing.TB) (a, b imsg.Conn) { return imsg.Pipe() },
	"socket": func(t testing.TB) (imsg.Conn, imsg.Conn) {
		a, b, err := socketpair()
		if err != nil {
			t.Fatal(err)
		}
		c, err1 := stream(a)
		d, err2 := stream(b)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return imsg.NewUnix(c), imsg.NewUnix(d)
	},
}

// start runs the component over a wire and returns what smtp and mta have.
func start(t testing.TB, wire string, keys ...Key) (atSMTP, atMTA *Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	client := func() (imsg.Conn, *Client) {
		far, near := wires[wire](t)
		peer := imsg.NewPeer(near, nil)
		running.Go(func() {
			if err := peer.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		return far, NewClient(peer)
	}
	c := Config{Keys: keys}
	c.SMTP, atSMTP = client()
	c.MTA, atMTA = client()
	running.Go(func() {
		if err := Main(ctx, c); err != nil {
			t.Error(err)
		}
	})
	return atSMTP, atMTA
}

// TestHandshake has a server and a client prove who they are with keys that
// neither of them has.
func TestHandshake(t *testing.T) {
	for _, test := range []struct {
		kind    string
		version uint16
		suite   uint16
	}{
		{"rsa", tls.VersionTLS13, 0},
		{"rsa", tls.VersionTLS12, 0},
		{"rsa", tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, // the server decrypts
		{"rsa", tls.VersionTLS10, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
		{"ecdsa", tls.VersionTLS13, 0},
		{"ecdsa", tls.VersionTLS12, 0},
		{"ecdsa", tls.VersionTLS10, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
		{"p384", tls.VersionTLS13, 0},
		{"ed25519", tls.VersionTLS13, 0},
		{"ed25519", tls.VersionTLS12, 0},
	} {
		for wire := range wires {
			name := strings.Join([]string{test.kind, tls.VersionName(test.version), wire}, "/")
			t.Run(name, func(t *testing.T) {
				serverKey, serverCert := testKey(t, test.kind)
				clientKey, clientCert := testKey(t, test.kind)
				serverKey.Server, clientKey.Client = true, true
				roots := x509.NewCertPool()
				roots.AddCert(serverCert.Leaf)
				roots.AddCert(clientCert.Leaf)
				atSMTP, atMTA := start(t, wire, serverKey, clientKey)
				serverCert.PrivateKey = atSMTP.Signer("server", serverCert.Leaf.PublicKey)
				clientCert.PrivateKey = atMTA.Signer("client", clientCert.Leaf.PublicKey)
				config := func(c tls.Certificate) *tls.Config {
					config := &tls.Config{
						Certificates: []tls.Certificate{c}, MinVersion: test.version, MaxVersion: test.version,
						RootCAs: roots, ClientCAs: roots, ServerName: "mx.example.org", ClientAuth: tls.RequireAndVerifyClientCert,
					}
					if test.suite != 0 {
						config.CipherSuites = []uint16{test.suite}
					}
					return config
				}
				handshake(t, config(serverCert), config(clientCert))
			})
		}
	}
}

func handshake(t *testing.T, server, client *tls.Config) {
	t.Helper()
	a, b := net.Pipe()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer a.Close()
	serving.Go(func() {
		c := tls.Server(b, server)
		defer c.Close()
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Error("server:", err)
			return
		}
		io.WriteString(c, "220 mx.example.org ESMTP\r\n")
	})
	c := tls.Client(a, client)
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Error("client:", err)
		return
	}
	if text, err := io.ReadAll(c); err != nil || string(text) != "220 mx.example.org ESMTP\r\n" {
		t.Errorf("read %q, %v", text, err)
	}
}

// TestWhoMayAsk checks that a component has only the keys that are given to
// it, and is not told of others.
func TestWhoMayAsk(t *testing.T) {
	servers, cert := testKey(t, "ecdsa")
	servers.Server = true
	atSMTP, atMTA := start(t, "pipe", servers)
	digest := sha256.Sum256(nil)
	if _, err := atSMTP.Signer("servers", cert.Leaf.PublicKey).Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Error(err)
	}
	_, err := atMTA.Signer("servers", cert.Leaf.PublicKey).Sign(nil, digest[:], crypto.SHA256)
	if err == nil || err.Error() != "sign with the key of pki servers: no such key" {
		t.Errorf("mta signs with the key of a listener: %v", err)
	}
	_, other := testKey(t, "ecdsa")
	if _, err := atSMTP.Signer("other", other.Leaf.PublicKey).Sign(nil, digest[:], crypto.SHA256); err == nil || !strings.Contains(err.Error(), "no such key") {
		t.Errorf("a key that is not there: %v", err)
	}
}

// TestDecryptOnlyForServer: a client never decrypts, so mta is not answered.
func TestDecryptOnlyForServer(t *testing.T) {
	k, cert := testKey(t, "rsa")
	k.Server, k.Client = true, true
	atSMTP, atMTA := start(t, "pipe", k)
	pub := cert.Leaf.PublicKey.(*rsa.PublicKey)
	//lint:ignore SA1019 as a client of TLS 1.2 does
	secret, err := rsa.EncryptPKCS1v15(rand.Reader, pub, make([]byte, secretSize))
	if err != nil {
		t.Fatal(err)
	}
	decrypt := func(c *Client, secret []byte) ([]byte, error) {
		//lint:ignore SA1019 as crypto/tls asks
		return c.Signer("k", pub).(crypto.Decrypter).Decrypt(nil, secret, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: secretSize})
	}
	if got, err := decrypt(atSMTP, secret); err != nil || !bytes.Equal(got, make([]byte, secretSize)) {
		t.Errorf("smtp: %x, %v", got, err)
	}
	if _, err := decrypt(atMTA, secret); err == nil {
		t.Error("mta had a secret decrypted")
	}
	secret[len(secret)-1] ^= 1
	if got, err := decrypt(atSMTP, secret); err != nil || len(got) != secretSize {
		t.Errorf("a malformed secret can be told from a good one: %x, %v", got, err)
	}
	d := atSMTP.Signer("k", pub).(crypto.Decrypter)
	if _, err := d.Decrypt(nil, secret, nil); err == nil {
		t.Error("decrypts what is no secret of a handshake")
	}
}

// TestForm checks which texts are signed for whom.
func TestForm(t *testing.T) {
	k, cert := testKey(t, "ed25519")
	k.Server, k.Client = true, true
	atSMTP, atMTA := start(t, "pipe", k)
	hash := strings.Repeat("h", 32)
	exchange := strings.Repeat("r", 64) + "\x03\x00\x1d\x20" + strings.Repeat("p", 32)
	for _, test := range []struct {
		what, text     string
		server, client bool
	}{
		{"server of TLS 1.3", string(asServer) + hash, true, false},
		{"client of TLS 1.3", string(asClient) + hash, false, true},
		{"long hash", string(asServer) + hash + strings.Repeat("h", 16), true, false},
		{"no hash", string(asServer), false, false},
		{"more than a hash", string(asServer) + hash + "h", false, false},
		{"key exchange", exchange, true, false},
		{"key exchange and more", exchange + "p", false, false},
		{"messages", "\x01\x00\x00\x02ab\x02\x00\x00\x00", false, true},
		{"no hello", "\x02\x00\x00\x00", false, false},
		{"half a message", "\x01\x00\x00\x02a", false, false},
		{"half a header", "\x01\x00\x00\x00\x02", false, false},
		{"a letter", "I owe you ten pounds.", false, false},
		{"nothing", "", false, false},
	} {
		for who, want := range map[*Client]bool{atSMTP: test.server, atMTA: test.client} {
			sig, err := who.Signer("k", cert.Leaf.PublicKey).Sign(nil, []byte(test.text), crypto.Hash(0))
			if (err == nil) != want {
				t.Errorf("%s, smtp %v: %v", test.what, who == atSMTP, err)
			}
			if err == nil && !ed25519.Verify(cert.Leaf.PublicKey.(ed25519.PublicKey), []byte(test.text), sig) {
				t.Errorf("%s: wrong signature", test.what)
			}
		}
	}
}

// TestClientRefuses checks what is not even asked for.
func TestClientRefuses(t *testing.T) {
	c := NewClient(nil)
	rsaKey, err := kinds["rsa"]()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		text []byte
		opts crypto.SignerOpts
	}{
		{make([]byte, 31), crypto.SHA256},
		{make([]byte, 16), crypto.MD5},
		{make([]byte, 32), crypto.Hash(0)},
		{make([]byte, 32), &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 1}},
	} {
		if _, err := c.Signer("k", rsaKey.Public()).Sign(nil, test.text, test.opts); err == nil {
			t.Errorf("%d bytes, %v: signed", len(test.text), test.opts)
		}
	}
	if _, err := c.Signer("k", "no key").Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("signs with what is no key")
	}
}

// TestLost checks that a signature ends with the link.
func TestLost(t *testing.T) {
	near, far := imsg.Pipe()
	peer := imsg.NewPeer(near, nil)
	ended := make(chan error)
	go func() { ended <- peer.Run(t.Context()) }()
	go func() {
		far.Recv()
		far.Close()
	}()
	_, cert := testKey(t, "ecdsa")
	if _, err := NewClient(peer).Signer("k", cert.Leaf.PublicKey).Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, imsg.ErrClosed) {
		t.Errorf("got %v", err)
	}
	<-ended
}

// TestLoad checks what is said of key files that are none.
func TestLoad(t *testing.T) {
	good, cert := testKey(t, "ecdsa")
	text, err := os.ReadFile(good.File.Name())
	if err != nil {
		t.Fatal(err)
	}
	other, _ := testKey(t, "ecdsa")
	otherText, err := os.ReadFile(other.File.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ what, text, want string }{
		{"good", string(text), ""},
		{"after a certificate", "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n" + string(text), ""},
		{"another's", string(otherText), "does not belong to the certificate"},
		{"empty", "", "no private key in PEM form"},
		{"damaged", "-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----\n", "damaged"},
		{"passphrase", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nYQ==\n-----END ENCRYPTED PRIVATE KEY-----\n", "passphrase"},
		{"old passphrase", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nYQ==\n-----END RSA PRIVATE KEY-----\n", "passphrase"},
		{"endless", strings.Repeat("\n", maxKey), "larger than"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newAgent(Config{Keys: []Key{{Name: "mx", Public: cert.Leaf.PublicKey, File: f}}})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v", test.what, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "key of pki mx: ") {
			t.Errorf("%s: the error does not say which key: %v", test.what, err)
		}
		if f.Fd() != ^uintptr(0) {
			t.Errorf("%s: the file is still open", test.what)
		}
	}
}

// TestLoadAgain: the parent keeps the descriptor for the crypto that comes
// after this one.
func TestLoadAgain(t *testing.T) {
	k, _ := testKey(t, "ecdsa")
	fd, err := unix.Dup(int(k.File.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	again := k
	again.File = os.NewFile(uintptr(fd), "again")
	for _, k := range []Key{k, again} {
		if _, err := k.load(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "not to root") {
			t.Errorf("a user's file: %v", err)
		}
		t.Skip("the rest needs root")
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, test := range []struct {
		change func() error
		want   string
	}{
		{func() error { return os.Chmod(path, 0o644) }, "mode 0644"},
		{func() error { return errors.Join(os.Chmod(path, 0o600), os.Chown(path, 12345, 0)) }, "uid 12345"},
		{func() error { return errors.Join(os.Chown(path, 0, 0), os.Truncate(path, maxKey+1)) }, "larger than"},
		{func() error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) }, "not a regular file"},
		{func() error { return os.Remove(path) }, "no such file"},
	} {
		if err := test.change(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("want %q, got %v", test.want, err)
		}
	}
}

// TestBytes holds the encoding of the messages.
func TestBytes(t *testing.T) {
	id := keyID{1, 2}
	q := signRequest{Key: id, Padding: padPSS, Hash: crypto.SHA256, Text: make([]byte, 32)}
	want := append(id[:], 2, 5)
	want = imsg.AppendBytes(want, make([]byte, 32))
	if got := q.append(nil); !bytes.Equal(got, want) {
		t.Errorf("sign: %x", got)
	}
	d := decryptRequest{Key: id, Secret: []byte("s")}
	if got, want := d.append(nil), imsg.AppendString(id[:], "s"); !bytes.Equal(got, want) {
		t.Errorf("decrypt: %x", got)
	}
}

// FuzzRequest checks that a request of any bytes is refused or is one that
// comes back as it was, and that nothing is signed for a client but a
// handshake.
func FuzzRequest(f *testing.F) {
	k, cert := testKey(f, "ed25519")
	k.Client = true
	a, err := newAgent(Config{Keys: []Key{k}})
	if err != nil {
		f.Fatal(err)
	}
	id, err := idOf(k.Public)
	if err != nil {
		f.Fatal(err)
	}
	f.Add((&signRequest{Padding: padEd25519, Text: append(asClient[:len(asClient):len(asClient)], make([]byte, 32)...)}).append(nil))
	f.Add((&signRequest{Padding: padPKCS1, Hash: crypto.SHA384, Text: make([]byte, 48)}).append(nil))
	f.Add((&decryptRequest{Secret: []byte("secret")}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d decryptRequest
		if d.parse(b) == nil && !bytes.Equal(d.append(nil), b) {
			t.Fatalf("%x came back as %x", b, d.append(nil))
		}
		var q signRequest
		if q.parse(b) != nil {
			return
		}
		if !bytes.Equal(q.append(nil), b) {
			t.Fatalf("%x came back as %x", b, q.append(nil))
		}
		q.Key = id
		sig, err := a.sign(mta, q.append(nil))
		if err == nil && (!clientText(q.Text) || !ed25519.Verify(cert.Leaf.PublicKey.(ed25519.PublicKey), q.Text, sig)) {
			t.Fatalf("signed %x", q.Text)
		}
	})
}

// A counter counts the frames that are sent over a connection.
type counter struct {
	imsg.Conn
	frames *atomic.Int32
}

func (c counter) Send(frames ...imsg.Frame) error {
	c.frames.Add(int32(len(frames)))
	return c.Conn.Send(frames...)
}

// TestFrames checks what a handshake costs: one question and its answer,
// however many mails the session has, and nothing if the session is resumed.
func TestFrames(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		k, cert := testKey(t, "ecdsa")
		k.Server = true
		var frames atomic.Int32
		near, far := imsg.Pipe()
		nobody, mta := imsg.Pipe()
		peer := imsg.NewPeer(counter{near, &frames}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { peer.Run(ctx) })
		running.Go(func() { Main(ctx, Config{Keys: []Key{k}, SMTP: counter{far, &frames}, MTA: mta}) })

		cert.PrivateKey = NewClient(peer).Signer("k", cert.Leaf.PublicKey)
		roots := x509.NewCertPool()
		roots.AddCert(cert.Leaf)
		server := &tls.Config{Certificates: []tls.Certificate{cert}}
		client := &tls.Config{
			RootCAs: roots, ServerName: "mx.example.org", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		for i, want := range []int32{2, 2} { // the second session is resumed
			handshake(t, server, client)
			if got := frames.Load(); got != want {
				t.Errorf("%s: %d frames after handshake %d, want %d", tls.VersionName(version), got, i+1, want)
			}
		}
		cancel()
		nobody.Close()
		running.Wait()
	}
}

// BenchmarkSign measures a signature: here, by a component beside this one in
// the process, and by one behind a socket.
func BenchmarkSign(b *testing.B) {
	digest := sha256.Sum256(nil)
	for _, kind := range []string{"ecdsa", "rsa"} {
		direct, err := kinds[kind]()
		if err != nil {
			b.Fatal(err)
		}
		signers := map[string]crypto.Signer{"none": direct}
		for wire := range wires {
			k, cert := testKey(b, kind)
			k.Server = true
			atSMTP, _ := start(b, wire, k)
			signers[wire] = atSMTP.Signer(kind, cert.Leaf.PublicKey)
		}
		for _, wire := range []string{"none", "pipe", "socket"} {
			b.Run("key="+kind+"/wire="+wire, func(b *testing.B) {
				for b.Loop() {
					if _, err := signers[wire].Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
