package lka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// TestNameServices has parent asked for accounts that no file has, and for no
// others; an answer is remembered, and a failure is no "no".
func TestNameServices(t *testing.T) {
	const absent = "no-such-account-in-a-file"
	ours, theirs := imsg.Pipe()
	var mu sync.Mutex
	asked := make(map[string]int)
	p := imsg.NewPeer(ours, func(_ context.Context, m imsg.Message) (imsg.Message, error) {
		name := imsg.NewReader(m.Data).String()
		mu.Lock()
		defer mu.Unlock()
		asked[name]++
		switch strings.TrimPrefix(name, absent) {
		case "-1":
			return imsg.Message{Data: imsg.AppendString(imsg.AppendBool(nil, true), "42:43:/home/one")}, nil
		case "-down":
			return imsg.Message{}, errors.New("the directory is down")
		}
		return imsg.Message{Data: imsg.AppendString(imsg.AppendBool(nil, false), "")}, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	r := start(t, Config{Rules: &compile.Ruleset{Tables: []compile.Table{{Name: "all", Kind: compile.Dynamic, Backend: "getpwnam"}}}, Parent: theirs})
	tests := []struct{ name, want string }{
		{"root", "{root 0 0 /root} true"},
		{absent + "-1", "{" + absent + "-1 42 43 /home/one} true"},
		{absent, "{ 0 0 } false"},
		{absent + "-down", "error"},
		{"no:name", "{ 0 0 } false"},
	}
	for range 2 {
		for _, tt := range tests {
			for _, table := range []compile.TableID{0, 1} {
				u, ok, err := r.mda.UserInfo(t.Context(), table, tt.name)
				got := fmt.Sprint(u, ok)
				if err != nil {
					got = "error"
				}
				if got != tt.want {
					t.Errorf("table %d, %s: %s, %v; want %s", table, tt.name, got, err, tt.want)
				}
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 3 || asked[absent+"-1"] != 1 {
		t.Errorf("asked %v", asked)
	}
}
