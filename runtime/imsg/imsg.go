// Package imsg owns the frames in which the components of the daemon talk
// and the connections that carry them: over a stream socketpair between
// processes, or inside one process with Pipe, which encodes all the same.
//
// Every component calls it; it knows none of them. A frame that does not
// parse ends its connection; it never panics and never reaches a handler.
package imsg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// Sizes of the wire format.
const (
	HeaderSize = 16
	MaxSize    = 16384 // of a frame with its header
	MaxData    = MaxSize - HeaderSize

	// MaxMessage bounds what Peer puts together from continued frames, and
	// maxPartial what it holds of all messages that are not complete yet.
	MaxMessage = 4 << 20
	maxPartial = 16 * MaxMessage
)

// fileFlag in the length field says that a descriptor travels with the frame.
const fileFlag = 0x80000000

// A Frame is one message on the wire.
type Frame struct {
	Type uint32 // message number; the upper four bits are Peer's
	ID   uint32 // correlation, chosen by the sender of a request
	PID  uint32
	Data []byte
	File *os.File // at most one; its receiver must close it
}

// A Conn sends and receives frames. Send may be called by many goroutines,
// Recv by one. Send takes ownership of each Frame's File.
type Conn interface {
	// Send writes frames in order, in as few system calls as it can.
	Send(frames ...Frame) error
	// Recv returns the next frame; io.EOF after the other end closed.
	Recv() (Frame, error)
	Close() error
}

// ErrFrame is returned, wrapped, for bytes that are no frame.
var ErrFrame = errors.New("malformed frame")

// appendFrame appends the encoding of f.
func appendFrame(b []byte, f Frame) ([]byte, error) {
	if len(f.Data) > MaxData {
		return b, fmt.Errorf("frame of %d bytes: %w", len(f.Data), ErrFrame)
	}
	n := uint32(HeaderSize + len(f.Data))
	if f.File != nil {
		n |= fileFlag
	}
	b = binary.NativeEndian.AppendUint32(b, f.Type)
	b = binary.NativeEndian.AppendUint32(b, n)
	b = binary.NativeEndian.AppendUint32(b, f.ID)
	b = binary.NativeEndian.AppendUint32(b, f.PID)
	return append(b, f.Data...), nil
}

// parseHeader returns the frame a header announces, the length of its data,
// and whether a descriptor comes with it. b holds at least HeaderSize bytes.
func parseHeader(b []byte) (f Frame, n int, file bool, err error) {
	size := binary.NativeEndian.Uint32(b[4:])
	file = size&fileFlag != 0
	size &^= fileFlag
	if size < HeaderSize || size > MaxSize {
		return f, 0, false, fmt.Errorf("length %d: %w", size, ErrFrame)
	}
	f.Type = binary.NativeEndian.Uint32(b)
	f.ID = binary.NativeEndian.Uint32(b[8:])
	f.PID = binary.NativeEndian.Uint32(b[12:])
	return f, int(size) - HeaderSize, file, nil
}
