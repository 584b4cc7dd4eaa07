package queue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("QUEUE_KILL_DIR"); dir != "" {
		if err := victim(dir, os.Getenv("QUEUE_KILL_ROUND")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A sink is an agent that writes down what it delivers.
type sink struct {
	file *os.File
	mda  *Client
	once sync.Once
	odd  chan string // what is wrong with a content, once
}

func (s *sink) Deliver(ctx context.Context, batch []envelope.Envelope) ([]Result, error) {
	f, err := s.mda.Open(ctx, batch[0].ID.Message())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	l := make([]Result, len(batch))
	for i := range batch {
		l[i] = Result{ID: batch[i].ID, Outcome: Delivered}
		if name, _, _ := strings.Cut(string(content), "\n"); name != batch[i].Dest.User {
			s.once.Do(func() { s.odd <- batch[i].Dest.User + " has the content of " + name })
		}
		fmt.Fprintln(s.file, batch[i].Dest.User)
	}
	return l, nil
}

// victim is the process that is killed: a queue that is sent messages, each
// written to the file "acknowledged" and to standard output once it is
// committed. In round "drain" it only delivers what is left.
func victim(dir, round string) error {
	acked, err := os.OpenFile(dir+"/acknowledged", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	delivered, err := os.OpenFile(dir+"/delivered", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := Config{Rules: testRules(), Dir: dir + "/spool"}
	if n, err := strconv.ParseInt(os.Getenv("QUEUE_KILL_WRITE"), 10, 64); err == nil {
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		c.Store, err = openPebble(StoreConfig{
			Dir: c.Dir, Grouping: newAgent(&c).destination, Log: log,
			fs: errorfs.Wrap(vfs.Default, &badLog{at: n}),
		})
		if err != nil {
			return err
		}
	}
	smtp, mfa, control := connectTo(ctx, &c.SMTP, nil), connectTo(ctx, &c.MFA, nil), connectTo(ctx, &c.Control, nil)
	mda := &sink{file: delivered, odd: make(chan string, 1)}
	mda.mda = connectTo(ctx, &c.MDA, DelivererHandler(mda))
	done := make(chan error, 1)
	go func() { done <- Main(ctx, c) }()
	if round == "drain" {
		if err := drained(ctx, control, mda.odd); err != nil {
			return err
		}
		cancel()
		return <-done
	}
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("%s.%d.%d", round, w, n)
				if sendNamed(ctx, smtp, mfa, name, n) == nil {
					fmt.Fprintln(acked, name)
					fmt.Println(name)
				}
			}
		}()
	}
	return <-done
}

// drained returns when the queue is empty.
func drained(ctx context.Context, control *Client, odd <-chan string) error {
	for {
		left := 0
		for _, err := range control.List(ctx, 0) {
			if err != nil {
				return err
			}
			left++
		}
		select {
		case text := <-odd:
			return errors.New(text)
		default:
		}
		if left == 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func connectTo(ctx context.Context, to *imsg.Conn, h imsg.Handler) *Client {
	var other imsg.Conn
	*to, other = imsg.Pipe()
	p := imsg.NewPeer(other, h)
	go p.Run(ctx)
	return NewClient(p)
}

// sendNamed queues a message that names itself; one in ten is large, one in
// seven is given up.
func sendNamed(ctx context.Context, smtp, mfa *Client, name string, n int) error {
	msg, f, err := smtp.Create(ctx)
	if err != nil {
		return err
	}
	size := 100
	if n%10 == 9 {
		size = maxInline
	}
	if _, err := io.WriteString(f, name+"\n"+strings.Repeat("x", size)); err != nil {
		return err
	}
	a := envelope.Address{User: name, Domain: "here"}
	if _, err := mfa.Submit(ctx, msg, []envelope.Envelope{{Type: envelope.MDA, Action: "local", LocalUser: "u", Dest: a}}); err != nil {
		return err
	}
	if n%7 == 6 {
		smtp.Rollback(ctx, msg)
		return io.EOF
	}
	return smtp.Commit(ctx, msg)
}

// TestKill kills a queue under load, over and over: what was acknowledged is
// delivered, and what was given up is not.
func TestKill(t *testing.T) {
	rounds := 5
	fmt.Sscan(os.Getenv("QUEUE_KILLS"), &rounds)
	dir := t.TempDir()
	for n := range rounds {
		v, out := startVictim(t, dir, fmt.Sprint(n))
		for range 1 + rand.IntN(400) { // messages
			if _, err := out.ReadString('\n'); err != nil {
				t.Fatalf("the queue ended by itself: %v, %v", err, v.Wait())
			}
		}
		v.Process.Kill()
		v.Wait()
	}
	delivered, acked := drain(t, dir)
	twice := 0
	for name, times := range delivered {
		var round, writer, n int
		fmt.Sscanf(name, "%d.%d.%d", &round, &writer, &n)
		if n%7 == 6 {
			t.Errorf("%s was given up and delivered", name)
		}
		twice += times - 1
	}
	t.Logf("%d kills, %d messages acknowledged, %d delivered, %d duplicates (killed between a delivery and its flush)",
		rounds, len(acked), len(delivered), twice)
}

// A badLog fails every write and sync of a log from the n-th on.
type badLog struct {
	at    int64
	count atomic.Int64
}

func (b *badLog) String() string { return "bad log" }

func (b *badLog) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(op.Path, ".log") && b.count.Add(1) >= b.at {
		return syscall.EIO
	}
	return nil
}

// TestFatal has writes of the log fail in a process that takes mail: it must
// end at once and say so, and what it has acknowledged by then is there.
func TestFatal(t *testing.T) {
	dir := t.TempDir()
	for _, at := range []int{20, 41, 160} {
		v, out := startVictim(t, dir, fmt.Sprint(at), fmt.Sprint("QUEUE_KILL_WRITE=", at))
		io.Copy(io.Discard, out)
		var status *exec.ExitError
		if err := v.Wait(); !errors.As(err, &status) || status.ExitCode() != 1 {
			t.Errorf("write %d: the process ended with %v", at, err)
		}
	}
	delivered, acked := drain(t, dir)
	if len(acked) == 0 {
		t.Error("nothing was acknowledged before the log failed")
	}
	t.Logf("%d messages acknowledged by processes whose log failed, %d delivered", len(acked), len(delivered))
}

// drain has a queue deliver all that is left, and compares.
func drain(t *testing.T, dir string) (delivered, acked map[string]int) {
	t.Helper()
	v, out := startVictim(t, dir, "drain")
	io.Copy(io.Discard, out)
	if err := v.Wait(); err != nil {
		t.Fatal(err)
	}
	acked, delivered = names(t, dir+"/acknowledged"), names(t, dir+"/delivered")
	for name := range acked {
		if delivered[name] == 0 {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	return delivered, acked
}

// startVictim returns a victim and its standard output.
func startVictim(t *testing.T, dir, round string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(append(os.Environ(), "QUEUE_KILL_DIR="+dir, "QUEUE_KILL_ROUND="+round), env...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(out)
}

// names counts the lines of a file. The last may be cut off.
func names(t *testing.T, file string) map[string]int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := make(map[string]int)
	for s := bufio.NewScanner(f); s.Scan(); {
		l[s.Text()]++
	}
	return l
}
