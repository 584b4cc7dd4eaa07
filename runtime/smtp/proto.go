package smtp

import "smtpd/runtime/imsg"

// The messages that others may send to this component.
const (
	typeSession uint32 = iota + 1 // control: open a local session; the answer carries a descriptor
	typePause                     // control: take connections or not; answered with whether that changed anything
	typePaused                    // control: answered with whether none are taken
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

// A pauseRequest stops or resumes taking connections.
type pauseRequest struct{ On bool }

func (r pauseRequest) append(b []byte) []byte { return imsg.AppendBool(b, r.On) }

func parsePauseRequest(b []byte) (pauseRequest, error) {
	d := imsg.NewReader(b)
	r := pauseRequest{On: d.Bool()}
	return r, d.Close()
}
