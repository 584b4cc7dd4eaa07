package smtp

import "smtpd/runtime/imsg"

// The messages that others may send to this component.
const (
	typeSession = 1 // control: open a local session; the answer carries a descriptor
)

// A sessionRequest asks for a session of the local submission socket.
type sessionRequest struct {
	UID uint32 // of the process that connected, by peer credentials
}

func (r sessionRequest) append(b []byte) []byte { return imsg.AppendUint32(b, r.UID) }

func parseSessionRequest(b []byte) (sessionRequest, error) {
	d := imsg.NewReader(b)
	r := sessionRequest{UID: d.Uint32()}
	return r, d.Close()
}
