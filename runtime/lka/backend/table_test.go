package backend

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/compile/engine"
)

// A fake is a source that does what a test says.
type fake struct {
	asked  atomic.Int64
	answer func(ctx context.Context, key string) (string, bool, error)
	list   func() ([]string, error)
	closed atomic.Bool
}

func (f *fake) Lookup(ctx context.Context, _ engine.Service, key string) (string, bool, error) {
	f.asked.Add(1)
	return f.answer(ctx, key)
}

func (f *fake) Check(ctx context.Context, s engine.Service, key string) (bool, error) {
	_, ok, err := f.Lookup(ctx, s, key)
	return ok, err
}

func (f *fake) List(context.Context, engine.Service) ([]string, error) {
	f.asked.Add(1)
	return f.list()
}

func (f *fake) Update(context.Context) error { return nil }
func (f *fake) Close()                       { f.closed.Store(true) }

// present answers at once that every key but "absent" is there.
func present(_ context.Context, key string) (string, bool, error) {
	if key == "absent" {
		return "", false, nil
	}
	return "value of " + key, true, nil
}

// hangs waits for the end of the context.
func hangs(ctx context.Context, _ string) (string, bool, error) {
	<-ctx.Done()
	return "", false, ctx.Err()
}

// deaf does not even notice that.
func deaf(until <-chan struct{}) func(context.Context, string) (string, bool, error) {
	return func(context.Context, string) (string, bool, error) {
		<-until
		return "", false, nil
	}
}

func openFake(t *testing.T, f *fake, l Limits) *Table {
	t.Helper()
	table := NewLimited("t", f, l)
	t.Cleanup(table.Close)
	return table
}

func TestTableRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: present}
		table := openFake(t, f, Standard)
		ask := func(key string, want int64) {
			t.Helper()
			v, ok, err := table.Lookup(t.Context(), engine.Alias, key)
			if ok != (key != "absent") || err != nil || ok && v != "value of "+key {
				t.Errorf("%s: %q, %v, %v", key, v, ok, err)
			}
			if n := f.asked.Load(); n != want {
				t.Errorf("%s: the source was asked %d times, want %d", key, n, want)
			}
		}
		ask("a", 1)
		ask("a", 1)
		ask("absent", 2)
		ask("absent", 2)
		time.Sleep(Standard.NegativeTTL)
		ask("a", 2)
		ask("absent", 3)
		time.Sleep(Standard.TTL - Standard.NegativeTTL)
		ask("a", 4)
		if _, err := table.Check(t.Context(), engine.Alias, "a"); err != nil || f.asked.Load() != 5 {
			t.Errorf("a check was answered from a lookup: %v", err)
		}
		if err := table.Update(t.Context()); err != nil {
			t.Error(err)
		}
		ask("a", 6)
	})
}

// TestTableForgetsErrors has a source that fails once: that is an error and
// not a no, and nothing that is remembered.
func TestTableForgetsErrors(t *testing.T) {
	down := errors.New("down")
	f := &fake{answer: func(context.Context, string) (string, bool, error) { return "", false, down }}
	table := openFake(t, f, Standard)
	for range 2 {
		if _, ok, err := table.Lookup(t.Context(), engine.Alias, "a"); ok || !errors.Is(err, down) {
			t.Errorf("%v, %v", ok, err)
		}
	}
	f.answer = present
	if _, ok, err := table.Lookup(t.Context(), engine.Alias, "a"); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// TestTableHangs has sources that say nothing: each question has its deadline,
// and no more of them are under way than may be.
func TestTableHangs(t *testing.T) {
	until := make(chan struct{})
	for name, answer := range map[string]func(context.Context, string) (string, bool, error){"hangs": hangs, "deaf": deaf(until)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				if name == "deaf" {
					answer = deaf(release)
				}
				f := &fake{answer: answer}
				table := NewLimited("t", f, Standard)
				began := time.Now()
				errs := make(chan error)
				for i := range 50 {
					go func() {
						_, _, err := table.Lookup(t.Context(), engine.Alias, fmt.Sprint("key", i))
						errs <- err
					}()
				}
				synctest.Wait()
				if n := f.asked.Load(); n != int64(Standard.Connections) {
					t.Errorf("%d questions under way, want %d", n, Standard.Connections)
				}
				for range 50 {
					if err := <-errs; !errors.Is(err, errTimeout) {
						t.Errorf("error %v, want %v", err, errTimeout)
					}
				}
				if took := time.Since(began); took != Standard.Timeout {
					t.Errorf("it took %v", took)
				}
				close(release)
				table.Close()
				if !f.closed.Load() {
					t.Error("the source was not closed")
				}
			})
		})
	}
}

// TestTableAsksOnce has many ask the same at the same time, and the first of
// them give up.
func TestTableAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		go_ := make(chan struct{})
		f := &fake{answer: func(_ context.Context, key string) (string, bool, error) {
			<-go_
			return key, true, nil
		}}
		table := openFake(t, f, Standard)
		first, cancel := context.WithCancel(t.Context())
		given := make(chan error)
		go func() {
			_, _, err := table.Lookup(first, engine.Alias, "a")
			given <- err
		}()
		synctest.Wait()
		answers := make(chan string)
		for range 20 {
			go func() {
				v, _, _ := table.Lookup(t.Context(), engine.Alias, "a")
				answers <- v
			}()
		}
		synctest.Wait()
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
		close(go_)
		for range 20 {
			if v := <-answers; v != "a" {
				t.Errorf("answer %q", v)
			}
		}
		if n := f.asked.Load(); n != 1 {
			t.Errorf("the source was asked %d times", n)
		}
	})
}

// TestTableBusy has more questions wait than may.
func TestTableBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: hangs}
		table := openFake(t, f, Standard)
		errs := make(chan error, maxWaiting)
		for i := range maxWaiting {
			go func() {
				_, _, err := table.Lookup(t.Context(), engine.Alias, fmt.Sprint(i))
				errs <- err
			}()
		}
		synctest.Wait()
		if _, _, err := table.Lookup(t.Context(), engine.Alias, "one more"); !errors.Is(err, errBusy) {
			t.Errorf("error %v, want %v", err, errBusy)
		}
		for range maxWaiting {
			if err := <-errs; !errors.Is(err, errTimeout) {
				t.Errorf("error %v", err)
			}
		}
	})
}

// TestTableUpdateWhileAsked has a question under way when everything is to be
// forgotten: what it finds is not remembered.
func TestTableUpdateWhileAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := make(chan struct{})
		f := &fake{answer: func(context.Context, string) (string, bool, error) {
			<-old
			return "old", true, nil
		}}
		table := openFake(t, f, Standard)
		got := make(chan string)
		go func() {
			v, _, _ := table.Lookup(t.Context(), engine.Alias, "a")
			got <- v
		}()
		synctest.Wait()
		if err := table.Update(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(old)
		if v := <-got; v != "old" {
			t.Errorf("%q", v)
		}
		f.answer = func(context.Context, string) (string, bool, error) { return "new", true, nil }
		if v, _, err := table.Lookup(t.Context(), engine.Alias, "a"); v != "new" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

func TestTableFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list, err := []string{"a", "b"}, error(nil)
		f := &fake{list: func() ([]string, error) { return list, err }}
		l := Standard
		l.Refresh = 3
		table := openFake(t, f, l)
		next := func(want string, asked int64) {
			t.Helper()
			v, ok, err := table.Fetch(t.Context(), engine.Source)
			if v != want || ok != (want != "") || err != nil || f.asked.Load() != asked {
				t.Errorf("%q, %v, %v after %d questions; want %q after %d", v, ok, err, f.asked.Load(), want, asked)
			}
		}
		next("a", 1)
		next("b", 1)
		next("a", 1)
		list = []string{"c"}
		next("c", 2) // after three calls
		time.Sleep(l.Expire)
		list = nil
		next("", 3)
		time.Sleep(l.Expire)
		err = errors.New("down")
		if v, ok, err := table.Fetch(t.Context(), engine.Source); ok || err == nil {
			t.Errorf("%q, %v, %v", v, ok, err)
		}
	})
}

// TestCacheSize fills a cache: it holds no more than it may, and what is asked
// for stays.
func TestCacheSize(t *testing.T) {
	c := cache{size: 100}
	now := time.Now()
	for i := range 10000 {
		c.put(question{opLookup, engine.Alias, fmt.Sprint(i)}, answer{found: true}, now.Add(time.Minute))
		if _, ok := c.get(question{opLookup, engine.Alias, "0"}, now); !ok {
			t.Fatalf("what is asked for was forgotten after %d", i)
		}
		if n := len(c.young) + len(c.old); n > 100 {
			t.Fatalf("%d answers are remembered", n)
		}
	}
	none := cache{}
	none.put(question{key: "a"}, answer{}, now.Add(time.Minute))
	if _, ok := none.get(question{key: "a"}, now); ok {
		t.Error("a cache of size 0 remembers")
	}
}
