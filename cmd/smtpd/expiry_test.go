package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"smtpd/runtime/stat"
)

// TestCertificateExpiry checks that the numbers say until when the certificates
// in force are valid, and nothing of those before them.
func TestCertificateExpiry(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"old", "mx"} {
		q := quickstart{Hostname: name + ".example.org", Key: filepath.Join(dir, name+".key"), Cert: filepath.Join(dir, name+".crt")}
		if _, err := q.certificate(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(q.Cert)
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{all: &setup{Certs: []certificate{{Name: name, PEM: text}}}}
		d.countCertificates()
	}
	t.Cleanup(certificateExpiry.Reset)

	families, err := stat.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "smtpd_certificate_expiry_timestamp_seconds" {
			continue
		}
		if len(f.Metric) != 1 {
			t.Fatalf("%d certificates, want 1", len(f.Metric))
		}
		m := f.Metric[0]
		if pki, subject := m.Label[0].GetValue(), m.Label[1].GetValue(); pki != "mx" || subject != "mx.example.org" {
			t.Errorf("it is %s for %s", pki, subject)
		}
		began := time.Unix(int64(m.GetGauge().GetValue()), 0).Add(-certificateLife)
		if ago := time.Since(began); ago < 0 || ago > time.Hour {
			t.Errorf("it expires as one does that was made %v ago", ago)
		}
		return
	}
	t.Error("no metric says when certificates expire")
}
