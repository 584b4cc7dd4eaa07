package queue

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A record is what stands under a key of the store and, for large content, in
// a block of a spool file:
//
//	version (1) flags (1) CRC-32C of flags and payload (4) payload
//
// The flags say how this one payload is stored, so that switching queue
// compression or encryption never strands mail that was stored before.
const recordVersion = 1

const (
	recordZstd   = 1 << iota // compressed, inside encryption
	recordGzip               // never written; what an imported queue holds
	recordSealed             // 0x01, nonce (12), AES-256-GCM ciphertext and tag
)

const (
	recordHeader = 6
	sealMark     = 0x01 // begins a sealed payload, as in an OpenSMTPD queue
	maxPlain     = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A recorder makes records and reads them.
type recorder struct {
	compress bool
	aead     cipher.AEAD // nil without a key
	encrypt  bool
	enc      *zstd.Encoder
	dec      *zstd.Decoder
}

// newRecorder returns a recorder for the options of the configuration. With
// a key it reads sealed records even when it is not to make them.
func newRecorder(compress, encrypt bool, key string) (*recorder, error) {
	r := &recorder{compress: compress, encrypt: encrypt}
	var err error
	if r.enc, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest)); err != nil {
		return nil, err
	}
	if r.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPlain)); err != nil {
		return nil, err
	}
	if key == "" {
		if encrypt {
			return nil, fmt.Errorf("queue encryption without a key")
		}
		return r, nil
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("queue encryption key of %d bytes: want 32", len(key))
	}
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return nil, err
	}
	r.aead, err = cipher.NewGCM(block)
	return r, err
}

// plain reports whether records hold their payload as it is.
func (r *recorder) plain() bool { return !r.compress && !r.encrypt }

// append appends the record of payload to b. A sealed record opens only
// under the same name: it cannot be moved to another place.
func (r *recorder) append(b, name, payload []byte) []byte {
	start := len(b)
	b = append(b, recordVersion, 0, 0, 0, 0, 0)
	var flags byte
	if r.compress {
		flags |= recordZstd
		payload = r.enc.EncodeAll(payload, nil)
	}
	if r.encrypt {
		flags |= recordSealed
		nonce := make([]byte, r.aead.NonceSize())
		rand.Read(nonce)
		b = append(append(b, sealMark), nonce...)
		b = r.aead.Seal(b, nonce, payload, name)
	} else {
		b = append(b, payload...)
	}
	b[start+1] = flags
	binary.LittleEndian.PutUint32(b[start+2:], recordSum(flags, b[start+recordHeader:]))
	return b
}

func recordSum(flags byte, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte{flags}, castagnoli), castagnoli, payload)
}

// parse returns the payload of a record. It may share memory with raw.
func (r *recorder) parse(name, raw []byte) ([]byte, error) {
	if len(raw) < recordHeader {
		return nil, fmt.Errorf("%d bytes: %w", len(raw), ErrDamaged)
	}
	if raw[0] != recordVersion {
		return nil, fmt.Errorf("record version %d: %w", raw[0], ErrDamaged)
	}
	flags, payload := raw[1], raw[recordHeader:]
	if recordSum(flags, payload) != binary.LittleEndian.Uint32(raw[2:]) {
		return nil, fmt.Errorf("checksum: %w", ErrDamaged)
	}
	if flags&^(recordZstd|recordGzip|recordSealed) != 0 {
		return nil, fmt.Errorf("record flags %#x: %w", flags, ErrDamaged)
	}
	var err error
	if flags&recordSealed != 0 {
		if payload, err = r.unseal(name, payload); err != nil {
			return nil, err
		}
	}
	switch {
	case flags&recordZstd != 0:
		payload, err = r.dec.DecodeAll(payload, nil)
	case flags&recordGzip != 0:
		payload, err = gunzip(payload)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return payload, nil
}

// errLocked is returned for what another key has sealed. It is not damage:
// with the right key it is mail.
var errLocked = fmt.Errorf("stored with another queue encryption key, or with one where there is none now")

func (r *recorder) unseal(name, payload []byte) ([]byte, error) {
	if r.aead == nil {
		return nil, errLocked
	}
	n := r.aead.NonceSize()
	if len(payload) < 1+n || payload[0] != sealMark {
		return nil, fmt.Errorf("no sealed payload: %w", ErrDamaged)
	}
	plain, err := r.aead.Open(nil, payload[1:1+n], payload[1+n:], name)
	if err != nil {
		return nil, errLocked
	}
	return plain, nil
}

func gunzip(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(io.LimitReader(z, maxPlain+1))
	if err == nil && len(p) > maxPlain {
		err = fmt.Errorf("more than %d bytes unpacked", maxPlain)
	}
	return p, err
}
