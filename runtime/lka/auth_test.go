package lka

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// secretHash is of "secret".
const secretHash = "$6$rounds=1000$saltstring$2BkAo106CG84raQcWpAlhyy6TSSkAsL1nfvBCoezLYyerUzY2l8axTvq6NynEt7SQAx3/cdop9ds0po8uaeHq0"

func TestAuthenticate(t *testing.T) {
	rs := &compile.Ruleset{Tables: []compile.Table{{Name: "credentials", Kind: compile.Mapping, Backend: "static", Entries: []compile.Entry{
		{Key: "alice", Value: secretHash}, {Key: "label", Value: "somebody:" + secretHash}, {Key: "clear", Value: "secret"},
		{Key: "empty", Value: ""}, {Key: "a:b", Value: secretHash}}}}}
	r := start(t, Config{Rules: rs})
	for _, x := range []struct {
		user, password string
		ok, fails      bool
	}{
		{"alice", "secret", true, false},
		{"Alice", "secret", true, false},
		{"alice", "Secret", false, false},
		{"label", "secret", true, false},
		{"nobody", "secret", false, false},
		{"", "secret", false, false},
		{"clear", "secret", false, true},
		{"empty", "", false, true},
	} {
		ok, err := r.smtp.Authenticate(t.Context(), 1, x.user, x.password)
		if ok != x.ok || (err != nil) != x.fails {
			t.Errorf("%s, %s: %v, %v", x.user, x.password, ok, err)
		}
	}
	if _, err := r.mta.Authenticate(t.Context(), 1, "alice", "secret"); err == nil {
		t.Error("mta may try passwords")
	}
	for _, table := range []compile.TableID{0, 2} {
		if ok, err := r.smtp.Authenticate(t.Context(), table, "alice", "secret"); ok || err == nil {
			t.Errorf("table %d: %v, %v", table, ok, err)
		}
	}
}

// TestAuthenticateByHelper has a program judge passwords, which sees them as
// they were typed, and one that does not.
func TestAuthenticateByHelper(t *testing.T) {
	dir := t.TempDir()
	judge := `#!/bin/sh
while IFS='|' read -r a b c d op service id key; do
	case "$a|$b" in
	'config|ready') echo 'register|auth'; echo 'register|ready';;
	'table|'*) case "$op|$service|$key" in
		'check|auth|alice:Secret') echo "check-result|$id|found";;
		*) echo "check-result|$id|not-found";;
		esac;;
	esac
done
`
	hashes := `#!/bin/sh
while IFS='|' read -r a b c d op service id key; do
	case "$a|$b" in
	'config|ready') echo 'register|credentials'; echo 'register|ready';;
	'table|'*) echo "$op-result|$id|found|"'` + secretHash + `';;
	esac
done
`
	for name, text := range map[string]string{"judge": judge, "hashes": hashes} {
		if err := os.WriteFile(filepath.Join(dir, "table-"+name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := startPrograms(t, helperRules("judge", "hashes"), dir)
	for _, x := range []struct {
		table          compile.TableID
		user, password string
		ok             bool
	}{
		{1, "alice", "Secret", true},
		{1, "Alice", "Secret", true},
		{1, "alice", "secret", false},
		{1, "alice:S", "ecret", false},
		{2, "anyone", "secret", true},
		{2, "anyone", "Secret", false},
	} {
		ok, err := r.smtp.Authenticate(t.Context(), x.table, x.user, x.password)
		if ok != x.ok || err != nil {
			t.Errorf("table %d, %s, %s: %v, %v", x.table, x.user, x.password, ok, err)
		}
	}
}

// TestAuthenticateByParent passes what is asked without a table on to parent,
// and its answer back.
func TestAuthenticateByParent(t *testing.T) {
	ours, theirs := imsg.Pipe()
	asked := 0
	p := imsg.NewPeer(ours, func(_ context.Context, m imsg.Message) (imsg.Message, error) {
		if asked++; asked == 3 {
			return imsg.Message{}, errors.New("shadow is gone")
		}
		return imsg.Message{Data: imsg.AppendBool(nil, asked == 1)}, nil
	})
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	r := start(t, Config{Rules: new(compile.Ruleset), Parent: theirs})
	for _, want := range []struct{ ok, fails bool }{{true, false}, {false, false}, {false, true}} {
		if ok, err := r.smtp.Authenticate(t.Context(), 0, "alice", "secret"); ok != want.ok || (err != nil) != want.fails {
			t.Errorf("%v, %v, want %+v", ok, err, want)
		}
	}
}
