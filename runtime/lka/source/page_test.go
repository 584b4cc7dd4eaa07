package source

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/compile/tableconf"
	"smtpd/compile/tablefile"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/runtime/lka/backend"
)

// TestTablesPage opens the tables that docs/tables.md shows.
func TestTablesPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/tables.md")
	if err != nil {
		t.Fatal(err)
	}
	ca := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(ca, []byte(authority), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), "/etc/ssl/ldap-ca.pem", ca)
	shown := make(map[string]bool)
	for _, part := range strings.Split(text, "\n```")[1:] {
		name, config, _ := strings.Cut(part, "\n")
		switch {
		case name == "passwd":
			if _, err := tablefile.ParsePasswd("passwd", config); err != nil {
				t.Error(err)
			}
		case tableconf.Serves(name):
			b, err := Open(&compile.Table{Name: "t", Backend: name, Path: name, Config: config})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			b.Close()
			if f, err := tableconf.Parse(name, name, config); err != nil || len(f.Unknown()) > 0 {
				t.Errorf("%s: %v, %v", name, f.Unknown(), err)
			}
		case name == "smtpd.conf":
			f, list := lang.Parse(name, lang.Options{Text: []byte(config)})
			_, compiled := compile.Draft(f, hostfacts.Unnamed())
			for _, d := range append(list, compiled...) {
				if d.Class == diag.Language {
					t.Error(d)
				}
			}
		default:
			continue
		}
		shown[name] = true
	}
	for name := range sources {
		if !shown[name] {
			t.Errorf("the page shows no %s", name)
		}
	}
	for setting, value := range map[string]any{
		"timeout": backend.Standard.Timeout, "connections": backend.Standard.Connections, "cache_size": backend.Standard.Size,
		"cache_ttl": backend.Standard.TTL, "cache_negative_ttl": backend.Standard.NegativeTTL,
	} {
		if row := fmt.Sprintf("| `%s` | %v |", setting, value); !strings.Contains(text, row) {
			t.Errorf("the page lacks %s", row)
		}
	}
}

// authority is a certificate that signs itself.
const authority = `-----BEGIN CERTIFICATE-----
MIIBMDCB46ADAgECAhQyvOqtwdGF1peiAVW8jLTX0RqRXDAFBgMrZXAwDTELMAkG
A1UEAwwCY2EwIBcNMjYxMTI1MDMwNzI1WhgPMjEyNjExMDEwMzA3MjVaMA0xCzAJ
BgNVBAMMAmNhMCowBQYDK2VwAyEAfcpnbNCw4fUHb+fHTXN4UmsrGUy6wyvJgIKb
i5aIjAmjUzBRMB0GA1UdDgQWBBRWjbFW6LJvzO/0HtskFKUM6V27PjAfBgNVHSME
GDAWgBRWjbFW6LJvzO/0HtskFKUM6V27PjAPBgNVHRMBAf8EBTADAQH/MAUGAytl
cANBAP9JL0cWtRvctsQ+3HCCIPlfXf8ydKGcb8GIAi01OU2k1AtNdGTZWRS+ScYk
yM7Kx9g7sM87AS6ywUKG2SNpvQ4=
-----END CERTIFICATE-----
`
