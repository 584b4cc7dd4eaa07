package password

import (
	"errors"
	"strings"
	"testing"
)

// hashes are of "secret", made by libxcrypt and others.
var hashes = map[string]string{
	"yescrypt":       "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$GmcwIgvdUC9qLWcKCi6gklUa1dM3ziD43YxYNURLKy0",
	"sha512crypt":    "$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
	"sha512, rounds": "$6$rounds=1000$saltstring$2BkAo106CG84raQcWpAlhyy6TSSkAsL1nfvBCoezLYyerUzY2l8axTvq6NynEt7SQAx3/cdop9ds0po8uaeHq0",
	"sha256crypt":    "$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.",
	"bcrypt, 2b":     "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
	"bcrypt, 2y":     "$2y$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u",
	"md5crypt":       "$1$saltsalt$9xy1btjgzLYfb7hivXtC//",
	"argon2id":       "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$+v0rf6ETYAIpqJIjJyARZ3W3zqJlkf+0TRXzsLHmR6o",
	"scrypt":         "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$8fMVNQRIS3XNsc6gAOqWRDEoI09km9Ol5J49QfkUo8E",
	"pbkdf2":         "$pbkdf2-sha256$1000$c2FsdHNhbHRzYWx0c2FsdA$dClvKSmj66n6MdMWNv3Go4mvH1Ym2WIGiJvquqa.mfE",
}

func TestMatch(t *testing.T) {
	for name, text := range hashes {
		h, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for password, want := range map[string]bool{"secret": true, "Secret": false, "": false, "secret\x00": false} {
			if got, err := h.Match(password); got != want || err != nil {
				t.Errorf("%s: Match(%q) = %v, %v", name, password, got, err)
			}
		}
		if scheme, old := h.Scheme(); old != (scheme == "md5crypt") {
			t.Errorf("%s: old is %v", name, old)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"":                                   ErrScheme,
		"secret":                             ErrScheme,
		"*":                                  ErrScheme,
		"!" + hashes["sha512crypt"]:          ErrScheme,
		"abNANd1rDfiNc":                      ErrScheme, // DES
		"$plaintext$secret":                  ErrScheme,
		"$base64$c2VjcmV0":                   ErrScheme,
		"$":                                  ErrScheme,
		"$6$":                                ErrForm,
		"$6$" + strings.Repeat("x", maxHash): ErrScheme,
		"$6$rounds=1048577$saltstring$x":     ErrCost,
		"$5$rounds=999999999$saltstring$x":   ErrCost,
		"$2b$16$abcdefghijklmnopqrstuu2r9OfJnfCsdn":          ErrCost,
		"$2b$99$abcdefghijklmnopqrstuu2r9OfJnfCsdn":          ErrCost,
		"$argon2id$v=19$m=262145,t=3,p=4$c2FsdHNhbHQ$aGFzaA": ErrCost,
		"$argon2id$v=19$m=65536,t=99,p=4$c2FsdHNhbHQ$aGFzaA": ErrCost,
		"$argon2id$m=65536,t=3$c2FsdHNhbHQ$aGFzaA":           ErrCost,
		"$argon2id$v=19":                         ErrForm,
		"$argon2id$v=19$x":                       ErrCost,
		"$scrypt$ln=20,r=32,p=1$c2FsdA$aGFzaA":   ErrCost,
		"$scrypt$ln=99,r=8,p=1$c2FsdA$aGFzaA":    ErrCost,
		"$y$jzT$F5Jx5fExrKuPp53xLKQ..1$x":        ErrCost,
		"$pbkdf2-sha512$999999999$c2FsdA$aGFzaA": ErrCost,
	} {
		if _, err := Parse(text); !errors.Is(err, want) {
			t.Errorf("Parse(%q): %v, want %v", text, err, want)
		} else if len(text) > 6 && strings.Contains(err.Error(), text[6:]) {
			t.Errorf("Parse(%q) tells the hash: %v", text, err)
		}
	}
}
