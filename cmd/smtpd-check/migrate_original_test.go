package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpd/compile/hostfacts"
)

// TestMigrateOpenSMTPD gives the results of conversions to the OpenSMTPD that
// is installed, which must take them. What the results need of the host is
// made: interfaces, certificates and the files of tables.
func TestMigrateOpenSMTPD(t *testing.T) {
	const smtpd = "/usr/sbin/smtpd"
	version, err := exec.Command(smtpd, "-h").CombinedOutput()
	if !strings.Contains(string(version), "OpenSMTPD 6.8") {
		t.Skipf("%s is not OpenSMTPD 6.8, so what that says of the results is not known: %v", smtpd, err)
	}
	dir := t.TempDir()
	makeCertificate(t, dir)
	write(t, filepath.Join(dir, "list"), "a.example\n")
	write(t, filepath.Join(dir, "mapping"), "a: b\n")
	files, err := filepath.Glob("../../testdata/migration/*/old.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no pairs: %v", err)
	}
	if _, err := os.Stat("../../../shared/corpus"); err == nil {
		files = append(files, corpus(t, "1", "2")...)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := converted(t, path, text, hostfacts.Unnamed())
		conf := filepath.Join(dir, "smtpd.conf")
		result := atHome(string(m.texts[0].Data), dir)
		write(t, conf, result)
		if out, err := exec.Command(smtpd, "-n", "-f", conf).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s%s", path, err, out, result)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	certificateLine = regexp.MustCompile(`(?m)^((?:pki|ca) \S+ cert) .*$`)
	keyLine         = regexp.MustCompile(`(?m)^(pki \S+ key) .*$`)
	listenLine      = regexp.MustCompile(`(?m)^listen on ([^s ]\S*|s[^o ]\S*)`)
	tableLine       = regexp.MustCompile(`(?m)^table (\S+) [^{\n]*$`)
)

// atHome replaces what a result needs of its host by what there is in dir.
func atHome(text, dir string) string {
	text = certificateLine.ReplaceAllString(text, `$1 "`+dir+`/cert"`)
	text = keyLine.ReplaceAllString(text, `$1 "`+dir+`/key"`)
	text = listenLine.ReplaceAllString(text, "listen on lo")
	return tableLine.ReplaceAllStringFunc(text, func(line string) string {
		name := tableLine.FindStringSubmatch(line)[1]
		file := "mapping"
		if regexp.MustCompile(`(domain|src|mail-from|rcpt-to) <` + regexp.QuoteMeta(name) + `>`).MatchString(text) {
			file = "list"
		}
		return "table " + name + " file:" + dir + "/" + file
	})
}

// makeCertificate makes a certificate that signs itself.
func makeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}
