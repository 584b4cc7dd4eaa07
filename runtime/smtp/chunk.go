package smtp

import (
	"fmt"
	"io"
	"os"
	"time"

	"smtpd/runtime/rfc5321"
)

// A chunks is a message of which some chunks have come (RFC 3030).
type chunks struct {
	lines   rfc5321.ChunkReader
	content *content

	// The time of a message counts from its first chunk, so that small chunks
	// are no way to be slow.
	began time.Time
}

// fairChunk is the size of a chunk that is no command to count: large messages
// come in thousands of them, from some clients 8 KiB each.
const fairChunk = 512

// release lets go of what c holds.
func (c *chunks) release() {
	if c != nil {
		c.content.release()
	}
}

// bdat takes one chunk. Its bytes follow the command whatever the answer is,
// so they are read first. A message of which a chunk is refused is forgotten:
// what was sent ahead of it is out of order then.
func (s *session) bdat(arg string) {
	size, last, err := rfc5321.ParseChunk(arg)
	if err != nil {
		// Nobody knows where the next command begins.
		s.badInput(replyChunk)
		return
	}
	switch {
	case !s.esmtp || s.state&transaction == 0:
		s.skip(size, replyNotAllowed)
	case len(s.tx.accepted) == 0:
		s.skip(size, replyNoRecipient)
	case s.tx.chunks == nil && !s.beginChunks(): // answered
		s.rollback()
		s.skip(size, "")
	default:
		s.takeChunk(size, last)
	}
}

// beginChunks asks the filters, as DATA does.
func (s *session) beginChunks() bool {
	if !s.filterSimple(phaseData) {
		s.replied("tx-data", "5", s.tx.sender)
		return false
	}
	s.replied("tx-data", replyData, s.tx.sender)
	s.tx.chunks = &chunks{content: s.openContent(), began: time.Now()}
	s.tx.chunks.lines.BareLF = s.bareLF
	s.state = chunking
	return true
}

// takeChunk reads a chunk into the message and answers.
func (s *session) takeChunk(size int64, last bool) {
	c := s.tx.chunks
	s.conn.began, s.conn.read = c.began, c.lines.Size()
	if time.Now().After(s.conn.last()) { // it need not be read for that, if it came with its command
		s.lost(os.ErrDeadlineExceeded)
		return
	}
	if size >= fairChunk {
		s.said--
	}
	refusal := error(nil)
	err := s.eachPart(size, func(part []byte) {
		if refusal == nil {
			refusal = s.takePart(part)
		}
	})
	if err != nil {
		s.lost(err)
		return
	}
	if last && refusal == nil {
		refusal = c.lines.End(c.content.Write)
	}
	if last && refusal == nil {
		refusal = c.content.Close()
	}
	switch {
	case last || refusal != nil:
		s.conclude(c.content.size(), refusal)
	default:
		s.reply(fmt.Sprintf(replyOctets, size))
	}
}

func (s *session) takePart(part []byte) error {
	c := s.tx.chunks
	if c.lines.Size()+int64(len(part)) > s.srv.rules.SMTP.MaxMessageSize {
		return errTooBig
	}
	return c.lines.Take(part, c.content.Write)
}

// skip reads a chunk that is not wanted, and refuses it unless that was done.
func (s *session) skip(size int64, refusal string) {
	if s.state == closing {
		return
	}
	if err := s.eachPart(size, func([]byte) {}); err != nil {
		s.lost(err)
		return
	}
	if refusal != "" {
		s.fail("%s", refusal)
	}
}

// eachPart reads size bytes. As readLine does, it sends what was answered so
// far before it waits for the client.
func (s *session) eachPart(size int64, f func(part []byte)) error {
	for size > 0 {
		if s.in.Buffered() == 0 {
			if err := s.flush(); err != nil {
				return err
			}
			s.tell()
		}
		if _, err := s.in.Peek(1); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		part, _ := s.in.Peek(int(min(int64(s.in.Buffered()), size)))
		f(part)
		s.in.Discard(len(part))
		size -= int64(len(part))
	}
	return nil
}
