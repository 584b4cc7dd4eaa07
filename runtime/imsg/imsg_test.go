package imsg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketpair returns the ends of a connection between processes.
func socketpair(t testing.TB) (Conn, Conn) {
	t.Helper()
	a, b := rawPair(t)
	return NewUnix(a), NewUnix(b)
}

func rawPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1]
}

// wires are the two ways in which components are connected. What holds for
// one must hold for the other.
var wires = map[string]func(testing.TB) (Conn, Conn){
	"pipe":   func(testing.TB) (Conn, Conn) { return Pipe() },
	"socket": socketpair,
}

func onEachWire(t *testing.T, f func(t *testing.T, a, b Conn)) {
	for name, wire := range wires {
		t.Run(name, func(t *testing.T) {
			a, b := wire(t)
			f(t, a, b)
		})
	}
}

func testFile(t testing.TB, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestHeaderBytes holds the layout of a frame.
func TestHeaderBytes(t *testing.T) {
	got, err := appendFrame(nil, Frame{Type: 1, ID: 2, PID: 3, Data: []byte("ab"), File: os.Stdin})
	want := AppendUint32(AppendUint32(AppendUint32(AppendUint32(nil, 1), 18|0x80000000), 2), 3)
	if want = append(want, "ab"...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
}

func TestConn(t *testing.T) {
	onEachWire(t, func(t *testing.T, a, b Conn) {
		sent := []Frame{
			{Type: 1, ID: 1},
			{Type: 2, ID: 2, PID: 7, Data: []byte("data")},
			{Type: 3, ID: 3, Data: bytes.Repeat([]byte("x"), MaxData), File: testFile(t, "one")},
			{Type: 4, ID: 4, File: testFile(t, "two")},
			{Type: 5, ID: 5},
		}
		go func() {
			a.Send(slices.Clone(sent)...)
			a.Close()
		}()
		want := map[uint32]string{3: "one", 4: "two"}
		for _, s := range sent {
			f, err := b.Recv()
			if err != nil || f.Type != s.Type || f.ID != s.ID || f.PID != s.PID || !bytes.Equal(f.Data, s.Data) {
				t.Fatalf("got %v, %v, want %v", f, err, s)
			}
			if (f.File != nil) != (want[f.Type] != "") {
				t.Fatalf("frame %d: file %v", f.Type, f.File)
			}
			if f.File != nil {
				text, err := io.ReadAll(f.File)
				f.File.Close()
				if err != nil || string(text) != want[f.Type] {
					t.Errorf("frame %d: file holds %q, %v", f.Type, text, err)
				}
			}
		}
		if f, err := b.Recv(); err != io.EOF {
			t.Errorf("after the end: %v, %v", f, err)
		}
	})
}

func TestSendRefusesLargeFrame(t *testing.T) {
	onEachWire(t, func(t *testing.T, a, b Conn) {
		if err := a.Send(Frame{Data: make([]byte, MaxData+1)}); !errors.Is(err, ErrFrame) {
			t.Errorf("got %v", err)
		}
	})
}

// talk runs a peer on each end until the test is over.
func talk(t *testing.T, a, b Conn, h Handler) *Peer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	client, server := NewPeer(a, nil), NewPeer(b, h)
	var running sync.WaitGroup
	for _, p := range []*Peer{client, server} {
		running.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return client
}

func TestPeer(t *testing.T) {
	echo := func(_ context.Context, m Message) (Message, error) {
		if m.Type == 9 {
			return Message{}, errors.New("not today")
		}
		return Message{Data: append([]byte{byte(m.Type)}, m.Data...), File: m.File}, nil
	}
	onEachWire(t, func(t *testing.T, a, b Conn) {
		p := talk(t, a, b, echo)
		var calls sync.WaitGroup
		for i := range 20 {
			calls.Go(func() {
				data := strings.Repeat("x", i*MaxData/3)
				m, err := p.Call(t.Context(), Message{Type: uint32(i + 10), Data: []byte(data)})
				if err != nil || string(m.Data) != string(rune(i+10))+data {
					t.Errorf("call %d: %d bytes, %v", i, len(m.Data), err)
				}
			})
		}
		calls.Wait()
		if _, err := p.Call(t.Context(), Message{Type: 9}); err != RemoteError("not today") {
			t.Errorf("got %v", err)
		}
		m, err := p.Call(t.Context(), Message{Type: 1, File: testFile(t, "content")})
		if err != nil || m.File == nil {
			t.Fatalf("got %v, %v", m, err)
		}
		text, err := io.ReadAll(m.File)
		m.File.Close()
		if err != nil || string(text) != "content" {
			t.Errorf("got %q, %v", text, err)
		}
		if _, err := p.Call(t.Context(), Message{Type: 1, Data: make([]byte, MaxMessage+1)}); err == nil {
			t.Error("a message that is too large was sent")
		}
		if _, err := p.Call(t.Context(), Message{Type: 1, Data: make([]byte, MaxMessage)}); err == nil {
			t.Error("an answer that is too large came")
		}
		if _, err := p.Call(t.Context(), Message{Type: 1}); err != nil {
			t.Errorf("after those: %v", err)
		}
	})
}

func TestCallEndsWithContext(t *testing.T) {
	onEachWire(t, func(t *testing.T, a, b Conn) {
		ctx, cancel := context.WithCancel(t.Context())
		p := talk(t, a, b, func(ctx context.Context, m Message) (Message, error) {
			if m.Type == 1 {
				cancel()
				<-ctx.Done() // never answers
			}
			return Message{}, nil
		})
		if _, err := p.Call(ctx, Message{Type: 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, err := p.Call(t.Context(), Message{Type: 2}); err != nil {
			t.Errorf("after that: %v", err)
		}
	})
}

func TestCallEndsWithConnection(t *testing.T) {
	onEachWire(t, func(t *testing.T, a, b Conn) {
		p := NewPeer(a, nil)
		ended := make(chan error)
		go func() { ended <- p.Run(t.Context()) }()
		go func() {
			b.Recv()
			b.Close()
		}()
		if _, err := p.Call(t.Context(), Message{Type: 1}); !errors.Is(err, ErrClosed) {
			t.Errorf("call under way: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := p.Call(t.Context(), Message{Type: 1}); !errors.Is(err, ErrClosed) {
			t.Errorf("call after: %v", err)
		}
	})
}

// TestPeerBounds checks that messages which never end are not collected
// without end.
func TestPeerBounds(t *testing.T) {
	onEachWire(t, func(t *testing.T, a, b Conn) {
		p := NewPeer(b, nil)
		go func() {
			data := make([]byte, MaxData)
			for id := uint32(1); a.Send(Frame{Type: 1 | flagMore, ID: id, Data: data}) == nil; id++ {
			}
		}()
		if err := p.Run(t.Context()); !errors.Is(err, ErrFrame) {
			t.Errorf("Run = %v", err)
		}
		a.Close()
	})
}

// TestDescriptorFlood sends descriptors that no frame announces.
func TestDescriptorFlood(t *testing.T) {
	raw, b := rawPair(t)
	f := testFile(t, "x")
	fd := int(f.Fd())
	var sending sync.WaitGroup
	defer f.Close()
	defer sending.Wait()
	defer b.Close()
	sending.Go(func() {
		// One header that promises more data than ever comes, byte by byte.
		header, _ := appendFrame(nil, Frame{Type: 1, Data: make([]byte, MaxData)})
		for _, c := range header {
			fds := make([]int, 8)
			for i := range fds {
				fds[i] = fd
			}
			if _, _, err := raw.WriteMsgUnix([]byte{c}, unix.UnixRights(fds...), nil); err != nil {
				return
			}
		}
		raw.Close()
	})
	conn := NewUnix(b).(*unixConn)
	if _, err := conn.Recv(); !errors.Is(err, ErrFrame) {
		t.Errorf("Recv = %v", err)
	}
	if len(conn.files) > 0 {
		t.Errorf("%d descriptors are kept", len(conn.files))
	}
}

func TestMissingDescriptor(t *testing.T) {
	raw, b := rawPair(t)
	frame, err := appendFrame(nil, Frame{Type: 1, File: os.Stdin})
	if err != nil {
		t.Fatal(err)
	}
	raw.Write(frame)
	if _, err := NewUnix(b).Recv(); !errors.Is(err, ErrFrame) {
		t.Errorf("Recv = %v", err)
	}
}

// FuzzRecv feeds bytes to a connection: it gives frames that encode to those
// bytes again, and then an error, never a panic.
func FuzzRecv(f *testing.F) {
	one, _ := appendFrame(nil, Frame{Type: 1, ID: 2, PID: 3, Data: []byte("data")})
	f.Add(append(one, one...))
	f.Add([]byte("short"))
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, in []byte) {
		raw, b := rawPair(t)
		go func() {
			raw.Write(in)
			raw.Close()
		}()
		conn := NewUnix(b)
		var out []byte
		for {
			fr, err := conn.Recv()
			if err != nil {
				break
			}
			if out, err = appendFrame(out, fr); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, out) {
			t.Fatalf("%x gave frames %x", in, out)
		}
	})
}

// FuzzReader checks that what a Reader accepts is what the Append functions
// write.
func FuzzReader(f *testing.F) {
	f.Add(AppendTime(AppendBool(AppendString(AppendUint64(AppendUint32(nil, 1), 2), "three"), true), time.Unix(5, 6)))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(in)
		a, b, s, c, d := r.Uint32(), r.Uint64(), r.String(), r.Bool(), r.Time()
		if r.Close() != nil {
			return
		}
		out := AppendTime(AppendBool(AppendString(AppendUint64(AppendUint32(nil, a), b), s), c), d)
		if !bytes.Equal(in, out) {
			t.Fatalf("%x became %x", in, out)
		}
	})
}

func TestReaderCount(t *testing.T) {
	r := NewReader(AppendUint32(nil, 1<<31))
	if n := r.Count(4); n != 0 || r.Close() == nil {
		t.Errorf("a count of %d is believed", n)
	}
}
