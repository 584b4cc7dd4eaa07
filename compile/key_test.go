package compile

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

func TestKeyProblem(t *testing.T) {
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte, headers map[string]string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der, Headers: headers}))
	}
	const (
		none    = "no private key in PEM form"
		damaged = "a private key that is damaged"
		locked  = "a private key behind a passphrase, which nobody could type when the server starts"
	)
	key := block("PRIVATE KEY", der, nil)
	old := block("RSA PRIVATE KEY", der, map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"})
	for _, tt := range []struct{ name, text, want string }{
		{"good", key, ""},
		{"after other text", "my key:\n" + key + "end\n", ""},
		{"after parameters", block("EC PARAMETERS", der, nil) + key, ""},
		{"after a certificate", block("CERTIFICATE", der, nil) + key, ""},
		{"of another name", block("RSA PRIVATE KEY", der, nil), ""},
		{"two", key + block("PRIVATE KEY", der[:5], nil), ""},
		{"empty", "", none},
		{"a certificate alone", block("CERTIFICATE", der, nil), none},
		{"of an unknown name", block("FOO PRIVATE KEY", der, nil), none},
		{"no end", key[:len(key)-20], none},
		{"not PEM", string(der), none},
		{"cut off", block("PRIVATE KEY", der[:len(der)-1], nil), damaged},
		{"too long", block("PRIVATE KEY", append(der[:len(der):len(der)], 0), nil), damaged},
		{"zeros", block("PRIVATE KEY", []byte{0, 0, 0}, nil), damaged},
		{"passphrase", block("ENCRYPTED PRIVATE KEY", der, nil), locked},
		{"passphrase of the old form", old, locked},
		{"the first is behind a passphrase", old + key, locked},
	} {
		if got := keyProblem([]byte(tt.text)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
