package proc

import (
	"log/slog"

	"smtpd/runtime/imsg"
)

// Frames between the process that supervises and one that it started. Each
// side reads them in their order.
const (
	// To the process. Its first Start ends what it is given at first.
	frameLink    uint32 = iota + 1 // a name, and the connection to the component of that name
	frameFile                      // a name, and what it stands for
	frameStart                     //
	frameStop                      // end in good order
	frameRetire                    // take no more work, and end when all is done
	frameUpdate                    // go by the files that came before it
	frameCount                     // say what it has counted
	frameTrace                     // an order to trace, and where to
	frameUntrace                   // the number of an order

	// From the process.
	frameHello   // a greeting
	frameReady   // it serves
	frameLost    // a name: the connection to that component has ended
	frameUpdated // it goes by what it was given, or takes no more work
	frameCounted // a piece of what it has counted, and whether more follow

	// Both ways: the level of the log, for all.
	frameLevel
)

// A greeting is the first that a process says.
type greeting struct {
	Role  string
	Build string // of the program it runs
}

func (g greeting) append(b []byte) []byte {
	return imsg.AppendString(imsg.AppendString(b, g.Role), g.Build)
}

func (g *greeting) parse(b []byte) error {
	r := imsg.NewReader(b)
	*g = greeting{Role: r.String(), Build: r.String()}
	return r.Close()
}

func appendLevel(b []byte, l slog.Level) []byte { return imsg.AppendUint32(b, uint32(l)) }

func parseLevel(b []byte) (slog.Level, error) {
	r := imsg.NewReader(b)
	l := slog.Level(int32(r.Uint32()))
	return l, r.Close()
}

// A piece is a part of what a process has counted.
type piece struct {
	Data []byte
	More bool
}

func (p piece) append(b []byte) []byte {
	return imsg.AppendBool(imsg.AppendBytes(b, p.Data), p.More)
}

func (p *piece) parse(b []byte) error {
	r := imsg.NewReader(b)
	*p = piece{Data: r.Bytes(), More: r.Bool()}
	return r.Close()
}

// A traceOrder has lines of the log copied that mention an id.
type traceOrder struct {
	Number uint32
	ID     string
}

func (o traceOrder) append(b []byte) []byte {
	return imsg.AppendString(imsg.AppendUint32(b, o.Number), o.ID)
}

func (o *traceOrder) parse(b []byte) error {
	r := imsg.NewReader(b)
	*o = traceOrder{r.Uint32(), r.String()}
	return r.Close()
}

func appendName(b []byte, name string) []byte { return imsg.AppendString(b, name) }

func parseName(b []byte) (string, error) {
	r := imsg.NewReader(b)
	name := r.String()
	return name, r.Close()
}
