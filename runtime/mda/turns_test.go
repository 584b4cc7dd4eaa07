package mda

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(5, 2)
		var mu sync.Mutex
		running := make(map[string]int)
		var wg sync.WaitGroup
		for i := range 60 {
			name := fmt.Sprintf("user%d", i%4)
			wg.Go(func() {
				if _, err := turns.take(t.Context(), name); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				running[name]++
				running["all"]++
				if running[name] > 2 || running["all"] > 5 {
					t.Errorf("running: %v", running)
				}
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				running[name]--
				running["all"]--
				mu.Unlock()
				turns.release(name)
			})
		}
		wg.Wait()
		if len(turns.users) > 0 || len(turns.ready) > 0 {
			t.Errorf("left behind: %v", turns.users)
		}
	})
}

// TestTurnsAreFair checks that one user's hundred mails do not keep another's
// first one waiting.
func TestTurnsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(2, 2)
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		start := func(name string) {
			wg.Go(func() {
				if _, err := turns.take(t.Context(), name); err != nil {
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				time.Sleep(time.Second)
				turns.release(name)
			})
			synctest.Wait()
		}
		for range 20 {
			start("busy")
		}
		start("quiet")
		wg.Wait()
		if i := slices.Index(order, "quiet"); i < 0 || i > 3 {
			t.Errorf("quiet came at %d of %v", i, order)
		}
	})
}

func TestTurnsGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1, 1)
		if _, err := turns.take(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, name := range []string{"a", "b"} {
			if _, err := turns.take(ctx, name); err == nil {
				t.Errorf("%s got a turn", name)
			}
		}
		turns.release("a")
		if _, err := turns.take(t.Context(), "b"); err != nil {
			t.Error(err)
		}
		turns.release("b")
		if len(turns.users) > 0 || turns.running != 0 {
			t.Errorf("left behind: %v, %d running", turns.users, turns.running)
		}
	})
}
