package milter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"
)

// A packet is what one side says.
type packet struct {
	code byte
	data string
}

func (p packet) String() string { return string(p.code) + " " + p.data }

func readPacket(r io.Reader) (p packet, err error) {
	var n uint32
	if err := binary.Read(r, binary.BigEndian, &n); err != nil {
		return p, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return p, err
	}
	return packet{b[0], string(b[1:])}, nil
}

func (p packet) writeTo(w io.Writer) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(p.data)+1))
	_, err := w.Write(append(append(b, p.code), p.data...))
	return err
}

// A fake is a milter that answers each packet but macros as answer says, and
// notes what it was told.
type fake struct {
	version           uint32
	actions, protocol uint32
	answer            func(p packet) []packet

	mu    sync.Mutex
	heard []packet
	calls int
}

var goOn = []packet{{code: 'c'}}

// dial connects to the milter.
func (f *fake) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	f.mu.Lock()
	f.calls++
	f.mu.Unlock()
	go f.serve(theirs)
	return ours, nil
}

func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		p, err := readPacket(in)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.heard = append(f.heard, p)
		f.mu.Unlock()
		var reply []packet
		switch p.code {
		case 'Q':
			return
		case 'D', 'A':
		case 'O':
			var b []byte
			for _, v := range [...]uint32{f.version, f.actions, f.protocol} {
				b = binary.BigEndian.AppendUint32(b, v)
			}
			reply = []packet{{'O', string(b)}}
		default:
			reply = goOn
			if f.answer != nil {
				reply = f.answer(p)
			}
		}
		for _, r := range reply {
			if r.writeTo(conn) != nil {
				return
			}
		}
	}
}

// told returns what the milter was told, without what was agreed.
func (f *fake) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []string
	for _, p := range f.heard {
		if p.code != 'O' {
			l = append(l, p.String())
		}
	}
	return l
}

func open6(t *testing.T, f *fake) *Session {
	t.Helper()
	f.version = 6
	s, err := Open(t.Context(), f.dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// pass sends a message through m and returns what comes out.
func pass(t *testing.T, m *Message, text string) (string, error) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { sent <- m.Send(strings.Split(strings.TrimSuffix(text, "\n"), "\n")...) }()
	if err := <-sent; err != nil {
		return "", err
	}
	var out []string
	for {
		lines, err := m.Next(t.Context())
		if err == io.EOF {
			return strings.Join(out, "\n") + "\n", nil
		}
		if err != nil {
			return "", err
		}
		if len(lines) == 0 {
			t.Fatal("no lines and no error")
		}
		out = append(out, lines...)
	}
}

const plain = "X-Spam: Yes\nReceived: from here\n\tby mx\nSubject: one\n two\nTo:  x\nReceived: there\n\nbody\n..dot\n\nend\n.\n"

// TestTold checks what a milter hears, byte by byte: the fields that the
// server itself has added are not for it.
func TestTold(t *testing.T) {
	f := new(fake)
	s := open6(t, f)
	ctx := t.Context()
	s.Connect(ctx, "client.example", netip.MustParseAddrPort("192.0.2.7:99"), Macros{"j", "mx"})
	s.Helo(ctx, "helo", nil)
	s.Mail(ctx, "a@b\x00c", Macros{"{auth_type}", "PLAIN"})
	s.Rcpt(ctx, "c@d", nil)
	got, err := pass(t, s.Message(ctx, false, Macros{"i", "1"}), plain)
	if got != plain || err != nil {
		t.Errorf("became %q, %v", got, err)
	}
	s.Mail(ctx, "", nil)
	s.Mail(ctx, "", nil)
	want := []string{
		"D Cj\x00mx\x00", "C client.example\x004\x00c192.0.2.7\x00", "H helo\x00", "D M{auth_type}\x00PLAIN\x00", "M <a@bc>\x00", "R <c@d>\x00",
		"D Ni\x001\x00", "D Ei\x001\x00", "L Subject\x00one\n two\x00", "L To\x00x\x00", "L Received\x00there\x00", "N ",
		"B body\r\n.dot\r\n\r\nend\r\n", "E ", "M <>\x00", "A ", "M <>\x00",
	}
	if diff := cmp.Diff(want, f.told()); diff != "" {
		t.Error(diff)
	}
}

// TestLeadingSpace keeps what stands before a value for a milter that wants
// it, as one that checks signatures does.
func TestLeadingSpace(t *testing.T) {
	f := &fake{protocol: uint32(wire.OptHeaderLeadingSpace | wire.OptNoHeaderReply | wire.OptNoConnect), actions: uint32(wire.OptAddHeader)}
	f.answer = func(p packet) []packet {
		switch p.code {
		case 'L':
			return nil
		case 'E':
			return []packet{{'h', "X-New\x00  v\x00"}, {code: 'c'}}
		}
		return goOn
	}
	s := open6(t, f)
	s.Connect(t.Context(), "x", netip.AddrPort{}, nil)
	s.Mail(t.Context(), "", nil)
	got, err := pass(t, s.Message(t.Context(), false, nil), "A:b\nC:  d\n\n.\n")
	if want := "A:b\nC:  d\nX-New:  v\n\n.\n"; got != want || err != nil {
		t.Errorf("became %q, %v", got, err)
	}
	if want := []string{"M <>\x00", "L A\x00b\x00", "L C\x00  d\x00", "N ", "E "}; !slices.Equal(f.told(), want) {
		t.Errorf("told %q", f.told())
	}
}

func index(n uint32, text string) string { return string(binary.BigEndian.AppendUint32(nil, n)) + text }

// TestChanges has milters change a message.
func TestChanges(t *testing.T) {
	const message = "Received: ours\nSubject: s\nX: 1\nX: 2\nx: 3\n\nbody\n.\n"
	for _, c := range []struct {
		name string
		acts []packet
		want string
	}{
		{"nothing", nil, message},
		{"add", []packet{{'h', "A\x00b\x00"}}, "Received: ours\nSubject: s\nX: 1\nX: 2\nx: 3\nA: b\n\nbody\n.\n"},
		{"insert on top", []packet{{'i', index(0, "A\x00b\x00")}}, "A: b\nReceived: ours\nSubject: s\nX: 1\nX: 2\nx: 3\n\nbody\n.\n"},
		{"insert first", []packet{{'i', index(1, "A\x00b\x00")}}, "Received: ours\nA: b\nSubject: s\nX: 1\nX: 2\nx: 3\n\nbody\n.\n"},
		{"insert third", []packet{{'i', index(3, "A\x00b\x00")}}, "Received: ours\nSubject: s\nX: 1\nA: b\nX: 2\nx: 3\n\nbody\n.\n"},
		{"insert far", []packet{{'i', index(99, "A\x00b\x00")}}, "Received: ours\nSubject: s\nX: 1\nX: 2\nx: 3\nA: b\n\nbody\n.\n"},
		{"change second", []packet{{'m', index(2, "X\x00new\x00")}}, "Received: ours\nSubject: s\nX: 1\nX: new\nx: 3\n\nbody\n.\n"},
		{"remove all", []packet{{'m', index(1, "x\x00\x00")}, {'m', index(2, "x\x00\x00")}, {'m', index(3, "x\x00\x00")}},
			"Received: ours\nSubject: s\n\nbody\n.\n"},
		{"remove what is not there", []packet{{'m', index(4, "X\x00\x00")}, {'m', index(1, "Y\x00\x00")}}, message},
		{"change what is not there", []packet{{'m', index(1, "Y\x00z\x00")}}, "Received: ours\nSubject: s\nX: 1\nX: 2\nx: 3\nY: z\n\nbody\n.\n"},
		{"not the field of the server", []packet{{'m', index(1, "Received\x00\x00")}}, message},
		{"lines", []packet{{'h', "A\x00b\n\tc\r\nd\n\n \ne\x00"}}, "Received: ours\nSubject: s\nX: 1\nX: 2\nx: 3\nA: b\n\tc\n\td\n\te\n\nbody\n.\n"},
		{"no name", []packet{{'h', "A B\x00b\x00"}, {'h', "\x00b\x00"}, {'h', "A:\x00b\x00"}, {'i', index(0, "A\n\nB\x00b\x00")}}, message},
		{"body", []packet{{'b', "new\r\n.dot\r\n\r\nhalf of a l"}, {'b', "ine\r\nbare\rCR\nlast"}},
			"Received: ours\nSubject: s\nX: 1\nX: 2\nx: 3\n\nnew\n..dot\n\nhalf of a line\nbareCR\nlast\n.\n"},
		{"no body", []packet{{'b', ""}}, "Received: ours\nSubject: s\nX: 1\nX: 2\nx: 3\n\n.\n"},
		{"slow", []packet{{code: 'p'}, {'h', "A\x00b\x00"}, {code: 'p'}}, "Received: ours\nSubject: s\nX: 1\nX: 2\nx: 3\nA: b\n\nbody\n.\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{actions: uint32(newActions), answer: func(p packet) []packet {
				if p.code == 'E' {
					return append(slices.Clone(c.acts), packet{code: 'a'})
				}
				return goOn
			}}
			s := open6(t, f)
			s.Mail(t.Context(), "", nil)
			m := s.Message(t.Context(), false, nil)
			got, err := pass(t, m, message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if a, _ := m.Outcome(); a.Verdict != Accept {
				t.Errorf("outcome %+v", a)
			}
		})
	}
}

// TestEnvelope has a milter change the envelope.
func TestEnvelope(t *testing.T) {
	f := &fake{actions: uint32(newActions), answer: func(p packet) []packet {
		if p.code == 'E' {
			return []packet{{'e', "<new@b>\x00"}, {'+', "<c@d>\x00"}, {'-', "<e@f>\x00"}, {'q', "smells\x00"}, {code: 'c'}}
		}
		return goOn
	}}
	s := open6(t, f)
	s.Mail(t.Context(), "", nil)
	m := s.Message(t.Context(), false, nil)
	if got, err := pass(t, m, plain); got != plain || err != nil {
		t.Errorf("became %q, %v", got, err)
	}
	_, got := m.Outcome()
	if diff := cmp.Diff(Changes{"<new@b>", []string{"<c@d>"}, []string{"<e@f>"}, "smells"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestDecisions has a milter decide at each step. Whatever it says, the message
// comes out whole: what is done with it is for others to know.
func TestDecisions(t *testing.T) {
	for answer, want := range map[packet]Answer{
		{code: 'c'}:                         {Verdict: Continue},
		{code: 'a'}:                         {Verdict: Accept},
		{code: 'd'}:                         {Verdict: Discard},
		{code: 'r'}:                         {Refuse, "550 5.7.1 Refused"},
		{code: 't'}:                         {Refuse, "451 4.7.1 Try again later"},
		{'y', "554 5.7.9 no\x00"}:           {Refuse, "554 5.7.9 no"},
		{'y', "550-one\r\n550 two\r\n\x00"}: {Refuse, "550 one two"},
		{'y', "250 what?\x00"}:              {Refuse, "451 4.7.1 Try again later"},
		{'y', "550 " + strings.Repeat("x", 600) + "\x00"}: {Refuse, "550 " + strings.Repeat("x", 506)},
	} {
		for _, at := range "CHMRLNBE" {
			f := &fake{answer: func(p packet) []packet {
				if p.code == byte(at) {
					return []packet{answer}
				}
				return goOn
			}}
			s := open6(t, f)
			ctx := t.Context()
			for _, ask := range []struct {
				code rune
				ask  func() (Answer, error)
			}{
				{'C', func() (Answer, error) { return s.Connect(ctx, "", netip.AddrPort{}, nil) }},
				{'H', func() (Answer, error) { return s.Helo(ctx, "", nil) }},
				{'M', func() (Answer, error) { return s.Mail(ctx, "", nil) }},
				{'R', func() (Answer, error) { return s.Rcpt(ctx, "", nil) }},
			} {
				expect := Answer{Verdict: Continue}
				if ask.code == at {
					expect = want
				}
				if got, err := ask.ask(); got != expect || err != nil {
					t.Errorf("%v at %c: %+v, %v", answer, ask.code, got, err)
				}
			}
			m := s.Message(ctx, false, nil)
			if got, err := pass(t, m, plain); got != plain || err != nil {
				t.Errorf("%v at %c: became %q, %v", answer, at, got, err)
			}
			expect := Answer{Verdict: Continue}
			if strings.ContainsRune("LNBE", at) {
				expect = want
			}
			if got, _ := m.Outcome(); got != expect {
				t.Errorf("%v at %c: outcome %+v", answer, at, got)
			}
			if n := strings.Count(strings.Join(f.told(), "|"), "|L"); at == 'L' && want.Verdict != Continue && n > 1 {
				t.Errorf("%v: told of %d fields after its decision", answer, n)
			}
		}
	}
}

// TestLost loses the milter at each step of a message.
func TestLost(t *testing.T) {
	for _, at := range "LNBE" {
		for _, bypass := range []bool{false, true} {
			f := &fake{actions: uint32(newActions)}
			f.answer = func(p packet) []packet {
				if p.code == byte(at) {
					return []packet{{code: 'Z'}}
				}
				return goOn
			}
			s := open6(t, f)
			s.Mail(t.Context(), "", nil)
			m := s.Message(t.Context(), bypass, nil)
			got, err := pass(t, m, plain)
			if bypass && (got != plain || err != nil) || !bypass && err == nil {
				t.Errorf("at %c, bypass %v: %q, %v", at, bypass, got, err)
			}
			if s.Err() == nil {
				t.Errorf("at %c: the session goes on", at)
			}
			if _, err := s.Mail(t.Context(), "", nil); err == nil {
				t.Errorf("at %c: it is asked again", at)
			}
			m.Close()
		}
	}
}

// TestHangs waits for a milter, and not for ever.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: func(packet) []packet { return nil }}
		s := open6(t, f)
		begin := time.Now()
		if _, err := s.Helo(t.Context(), "", nil); !errors.Is(err, errHangs) || time.Since(begin) != answerTime {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s = open6(t, f)
		if _, err := s.Helo(ctx, "", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		s = open6(t, &fake{answer: func(packet) []packet { return []packet{{code: 'p'}, {code: 'p'}} }})
		if _, err := s.Helo(t.Context(), "", nil); !errors.Is(err, errHangs) {
			t.Errorf("progress without end: %v", err)
		}
	})
}

// TestEndless bounds what a milter may say.
func TestEndless(t *testing.T) {
	more := packet{'p', strings.Repeat("x", 1<<19)}
	f := &fake{answer: func(packet) []packet { return []packet{more, more, more, {code: 'c'}} }}
	s := open6(t, f)
	if _, err := s.Helo(t.Context(), "", nil); !errors.Is(err, errTooMuch) {
		t.Error(err)
	}
}

// TestGivenUp begins another message while one is on its way: the milter hears
// nothing more of that.
func TestGivenUp(t *testing.T) {
	f := new(fake)
	s := open6(t, f)
	ctx := t.Context()
	s.Mail(ctx, "one", nil)
	m := s.Message(ctx, false, nil)
	m.Send("Subject: one", "Other: field")
	s.Mail(ctx, "two", nil)
	if err := m.Send("", "body", "."); err == nil {
		if _, err := m.Next(ctx); err == nil {
			t.Error("a message that was given up comes to its end")
		}
	}
	m.Close()
	if got, err := pass(t, s.Message(ctx, false, nil), plain); got != plain || err != nil {
		t.Errorf("the next one became %q, %v", got, err)
	}
	for i, p := range f.told() {
		if strings.Contains(p, "Other") || p == "A " && i != slices.Index(f.told(), "A ") {
			t.Errorf("told %q", f.told())
		}
	}
	// One that ends early is taken back.
	s.Mail(ctx, "three", nil)
	m = s.Message(ctx, false, nil)
	m.Send("Subject: three")
	m.Close()
	s.Helo(ctx, "", nil) // answered after all else was noted
	if l := f.told(); l[len(l)-2] != "A " {
		t.Errorf("told %q", l)
	}
}

// TestLarge passes a message of many blocks, and of lines longer than one.
func TestLarge(t *testing.T) {
	var text strings.Builder
	text.WriteString("Subject: large\n\n")
	for i := range 20000 {
		fmt.Fprintf(&text, "..line %d %s\n", i, strings.Repeat("x", i%200))
	}
	text.WriteString(strings.Repeat("y", 300_000) + "\n.\n")
	for _, protocol := range []wire.OptProtocol{0, wire.OptNoBody, wire.OptNoBodyReply} {
		var body bytes.Buffer
		f := &fake{protocol: uint32(protocol), answer: func(p packet) []packet {
			if p.code == 'B' {
				body.WriteString(p.data)
				if protocol == wire.OptNoBodyReply {
					return nil
				}
			}
			return goOn
		}}
		s := open6(t, f)
		s.Mail(t.Context(), "", nil)
		got, err := pass(t, s.Message(t.Context(), false, nil), text.String())
		if err != nil || got != text.String() {
			t.Fatalf("%d bytes came out of %d, %v", len(got), text.Len(), err)
		}
		_, want, _ := strings.Cut(strings.TrimSuffix(text.String(), ".\n"), "\n\n")
		want = strings.ReplaceAll(strings.ReplaceAll(want, "..line", ".line"), "\n", "\r\n")
		if protocol == wire.OptNoBody {
			want = ""
		}
		if body.String() != want {
			t.Errorf("the milter saw %d bytes of %d", body.Len(), len(want))
		}
	}
}

// TestNoHeader passes texts that are hardly messages.
func TestNoHeader(t *testing.T) {
	for _, text := range []string{".\n", "\n.\n", "text\n.\n", " folded\n.\n", "A: b\ntext\n\nmore\n.\n", "A: b\n.\n", "From x\nA: b\n\n.\n", ": x\n.\n"} {
		s := open6(t, new(fake))
		s.Mail(t.Context(), "", nil)
		if got, err := pass(t, s.Message(t.Context(), false, nil), text); got != text || err != nil {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}

// TestInsists refuses a milter that wants what nobody has offered.
func TestInsists(t *testing.T) {
	f := &fake{version: 6, actions: uint32(wire.OptSetSymList)}
	if _, err := Open(t.Context(), f.dial); err == nil || !strings.Contains(err.Error(), "insists") {
		t.Error(err)
	}
}

// A marker is a milter of the other implementation, which speaks version 2.
type marker struct {
	wire.NoOpMilter
	heard *[]string
}

func (m marker) Connect(host, family string, _ uint16, addr net.IP, _ *wire.Modifier) (wire.Response, error) {
	*m.heard = append(*m.heard, "connect "+host+" "+family+" "+addr.String())
	return wire.RespContinue, nil
}

func (m marker) RcptTo(to string, _ *wire.Modifier) (wire.Response, error) {
	if to == "bad@d" {
		return wire.NewResponseStr('y', "550 5.1.1 bad"), nil
	}
	return wire.RespContinue, nil
}

func (m marker) Header(name, value string, _ *wire.Modifier) (wire.Response, error) {
	*m.heard = append(*m.heard, "header "+name+" "+value)
	return wire.RespContinue, nil
}

func (m marker) Headers(textproto.MIMEHeader, *wire.Modifier) (wire.Response, error) {
	return wire.RespContinue, nil
}

func (m marker) Body(mod *wire.Modifier) (wire.Response, error) {
	err := errors.Join(mod.AddHeader("X-Marked", mod.Macros["i"]), mod.InsertHeader(1, "X-First", "yes"), mod.AddRecipient("more@d"))
	return wire.RespAccept, err
}

// TestOtherServer speaks with a server that is not of this project, which also
// is of an old version of the protocol.
func TestOtherServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var heard []string
	server := &wire.Server{NewMilter: func() wire.Milter { return marker{heard: &heard} }, Actions: wire.OptAddHeader | wire.OptAddRcpt}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	defer func() {
		ln.Close()
		<-served
	}()
	ctx := t.Context()
	s, err := Open(ctx, func(context.Context) (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Connect(ctx, "client.example", netip.MustParseAddrPort("[2001:db8::1]:0"), nil)
	for range 2 {
		s.Mail(ctx, "a@b", nil)
		if a, err := s.Rcpt(ctx, "bad@d", nil); a != (Answer{Refuse, "550 5.1.1 bad"}) || err != nil {
			t.Errorf("%+v, %v", a, err)
		}
		s.Rcpt(ctx, "c@d", nil)
		m := s.Message(ctx, false, Macros{"i", "77"})
		got, err := pass(t, m, "Received: ours\nSubject: x\n\nbody\n.\n")
		if want := "Received: ours\nX-First: yes\nSubject: x\nX-Marked: 77\n\nbody\n.\n"; got != want || err != nil {
			t.Errorf("became %q, %v", got, err)
		}
		if _, c := m.Outcome(); !slices.Equal(c.Add, []string{"<more@d>"}) {
			t.Errorf("changes %+v", c)
		}
	}
	if want := []string{"connect client.example tcp6 2001:db8::1", "header Subject x", "header Subject x"}; !slices.Equal(heard, want) {
		t.Errorf("heard %q", heard)
	}
}
