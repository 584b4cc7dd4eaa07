package parent

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smtpd/runtime/envelope"
)

var fromLine = regexp.MustCompile(`(?m)^From (\S+) (Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\w{3}) [ \d]\d \d\d:\d\d:\d\d \d{4}$`)

func TestMbox(t *testing.T) {
	a, home := newTestAgent(t)
	box := filepath.Join(home, "mbox")
	d := testDelivery(home, Mbox, box)
	wantDelivered(t, deliver(t, a, d, testMessage))
	null := d
	null.Sender = envelope.Address{}
	wantDelivered(t, deliver(t, a, null, "no: line end"))

	b, err := os.ReadFile(box)
	if err != nil {
		t.Fatal(err)
	}
	got := fromLine.ReplaceAllString(string(b), "From $1 DATE")
	want := "From bob@example.net DATE\n" + d.Header +
		"Subject: hello\n\n>From here on it is text.\n.\nlast\n\n" +
		"From MAILER-DAEMON DATE\n" + d.Header + "no: line end\n\n"
	if got != want {
		t.Errorf("mbox:\n%s\nwant:\n%s", got, want)
	}
	if st, _ := os.Stat(box); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode().Perm())
	}
}

// TestMboxNeverSplits checks that no message can pass for two.
func TestMboxNeverSplits(t *testing.T) {
	for _, text := range []string{
		"From a\n", "\nFrom a", strings.Repeat("x", 64<<10) + "From a\n",
		strings.Repeat("x", 64<<10-1) + "\nFrom a\n", "a\n\nFrom b\n\nFrom c\n",
	} {
		var out strings.Builder
		w := bufio.NewWriter(&out)
		if err := quoteFrom(w, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		if strings.HasPrefix(out.String(), "From ") || strings.Contains(out.String(), "\nFrom ") {
			t.Errorf("%.40q became %.40q", text, out.String())
		}
		if got := strings.ReplaceAll(out.String(), ">From ", "From "); strings.TrimSuffix(got, "\n") != strings.TrimSuffix(text, "\n") {
			t.Errorf("%.40q was changed", text)
		}
	}
}

func TestMboxTraps(t *testing.T) {
	a, home := newTestAgent(t)
	victim := filepath.Join(home, "victim")
	if err := os.WriteFile(victim, []byte("precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	traps := map[string]func(path string) error{
		"symbolic link": func(p string) error { return os.Symlink(victim, p) },
		"hard link":     func(p string) error { return os.Link(victim, p) },
		"fifo":          func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"directory":     func(p string) error { return os.Mkdir(p, 0o700) },
	}
	for name, set := range traps {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "mbox")
			if err := set(path); err != nil {
				t.Fatal(err)
			}
			if r := deliver(t, a, testDelivery(home, Mbox, path), testMessage); r.Outcome == Delivered {
				t.Errorf("delivered: %+v", r)
			}
			if b, _ := os.ReadFile(victim); string(b) != "precious\n" {
				t.Errorf("victim now holds %q", b)
			}
		})
	}
	wantDelivered(t, deliver(t, a, testDelivery(home, Mbox, os.DevNull), testMessage))
}

func TestMboxLock(t *testing.T) {
	a, home := newTestAgent(t)
	box := filepath.Join(home, "mbox")
	holder, err := os.OpenFile(box, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := tryLock(holder); !ok || err != nil {
		t.Fatal(ok, err)
	}
	a.limit = 50 * time.Millisecond
	d := testDelivery(home, Mbox, box)
	if r := deliver(t, a, d, testMessage); r.Outcome != TempFail {
		t.Errorf("with the lock held: %+v", r)
	}
	holder.Close()
	a.limit = timeLimit

	var wg sync.WaitGroup
	const n = 20
	content := testContent(t, testMessage)
	for range n {
		wg.Go(func() {
			if r := a.deliver(t.Context(), d, content); r != delivered {
				t.Errorf("result = %+v", r)
			}
		})
	}
	wg.Wait()
	b, _ := os.ReadFile(box)
	one := regexp.MustCompile(`From bob@example.net [^\n]*\n` + regexp.QuoteMeta(d.Header+strings.ReplaceAll(testMessage, "\nFrom ", "\n>From ")) + `\n`)
	if rest := one.ReplaceAllString(string(b), ""); rest != "" || len(one.FindAll(b, -1)) != n {
		t.Errorf("messages were mixed; besides whole ones there is:\n%s", rest)
	}
}
