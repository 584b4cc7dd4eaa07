package lang

import "testing"

func TestNearest(t *testing.T) {
	words := []string{"domain", "local", "any", "rcpt-to", "auth", "inet4", "inet6"}
	for word, want := range map[string]string{
		"domian": "domain", // two neighbours swapped
		"domai":  "domain",
		"niamod": "",
		"locall": "local",
		"an":     "any",
		"a":      "", // any word is near a short one
		"inet":   "", // two are equally near
		"inet46": "",
		"rcptto": "rcpt-to",
		"xyz":    "",
		"":       "",
	} {
		got, ok := nearest(word, words)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
}
