package transport

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/mistura-project/mistura/internal/wire"
)

// The two directions; field numbers as in mistura.proto.
func upward() direction {
	return direction{chunkTag: 13<<3 | 2, newFrame: func() frame { return new(wire.FromLearner) }}
}

func downward() direction {
	return direction{chunkTag: 12<<3 | 2, newFrame: func() frame { return new(wire.ToLearner) }}
}

// assembler puts the frames of one stream together. It is what the codec decodes
// into: a head frame starts a message, chunk frames fill its payload.
type assembler struct {
	direction
	limit int64 // largest payload, bytes
	room  *room
	moved func() // told of each ChunkBytes that have come, and of the rest; nil: nobody asks

	head    frame // nil between messages
	want    int   // bytes of its payload
	payload []byte
	sum     hash.Hash
	err     error // why decoding failed
}

func newAssembler(d direction, limit int64, from *room) *assembler {
	return &assembler{direction: d, limit: limit, room: from, sum: sha256.New()}
}

// next reads frames with recv until a message is whole. Its payload belongs to
// the caller. Messages with a body that this protocol does not know are passed over.
func (a *assembler) next(recv func(any) error) (head frame, payload []byte, damaged bool, err error) {
	for {
		if err := a.read(recv); err != nil {
			return nil, nil, false, err
		}
		head, payload = a.head, a.payload
		damaged = a.want > 0 && !bytes.Equal(a.sum.Sum(nil), head.GetPayloadDigest())
		a.head, a.payload, a.want = nil, nil, 0
		if hasBody(head) {
			return head, payload, damaged, nil
		}
	}
}

// read reads frames with recv until head and payload are complete.
func (a *assembler) read(recv func(any) error) error {
	for a.head == nil || len(a.payload) < a.want {
		err := recv(a)
		if err == io.EOF && a.head != nil {
			err = fmt.Errorf("%w: ended after %d of %d bytes of a payload", ErrMalformed, len(a.payload), a.want)
		}
		if err == nil {
			err = a.err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// decode takes one frame. An error waits for next: gRPC would answer it itself
// and drop all but its text.
func (a *assembler) decode(data mem.BufferSlice) {
	a.err = a.take(data)
}

func (a *assembler) take(data mem.BufferSlice) error {
	var first [chunkHeaderBytes]byte
	n := copyFront(first[:], data)
	if skip, ok := chunkHeader(first[:n], data.Len(), a.chunkTag); ok {
		return a.fill(data, skip)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	f := a.newFrame()
	if err := proto.Unmarshal(buf.ReadOnlyData(), f); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if part, ok := chunkOf(f); ok {
		return a.fill(mem.BufferSlice{mem.SliceBuffer(part)}, 0)
	}
	return a.begin(f)
}

// begin starts a message with its head frame.
func (a *assembler) begin(f frame) error {
	switch {
	case a.head != nil:
		return fmt.Errorf("%w: a new message after %d of %d bytes of a payload", ErrMalformed, len(a.payload), a.want)
	case f.GetPayloadBytes() > uint64(a.limit):
		return fmt.Errorf("%w: payload of %d bytes announced, at most %d are taken", ErrMalformed, f.GetPayloadBytes(), a.limit)
	case f.GetPayloadBytes() > 0 && len(f.GetPayloadDigest()) != sha256.Size:
		return fmt.Errorf("%w: payload digest of %d bytes, want %d", ErrMalformed, len(f.GetPayloadDigest()), sha256.Size)
	}
	a.head, a.want = f, int(f.GetPayloadBytes())
	a.payload = a.room.take(a.want)
	a.sum.Reset()
	return nil
}

// fill adds one chunk, the bytes of data from skip on.
func (a *assembler) fill(data mem.BufferSlice, skip int) error {
	n := data.Len() - skip
	if a.head == nil || n == 0 || n > a.want-len(a.payload) {
		return fmt.Errorf("%w: chunk of %d bytes where %d are missing", ErrMalformed, n, a.want-len(a.payload))
	}
	before := len(a.payload)
	a.grow(n)
	for _, part := range data {
		b := part.ReadOnlyData()
		drop := min(skip, len(b))
		skip -= drop
		a.payload = append(a.payload, b[drop:]...)
	}
	a.sum.Write(a.payload[before:])
	if after := len(a.payload); a.moved != nil && (after == a.want || after/ChunkBytes > before/ChunkBytes) {
		a.moved()
	}
	return nil
}

// growth bounds what an announcement alone can cost: room for at most so many
// times the bytes that have arrived.
const growth = 4

// grow makes room for n more bytes, for the whole payload if enough of it is there.
func (a *assembler) grow(n int) {
	need := len(a.payload) + n
	if need <= cap(a.payload) {
		return
	}
	bigger := make([]byte, len(a.payload), min(a.want, growth*need))
	copy(bigger, a.payload)
	a.payload = bigger
}

// copyFront copies the first bytes of data into dst and says how many.
func copyFront(dst []byte, data mem.BufferSlice) int {
	n := 0
	for _, part := range data {
		if n == len(dst) {
			break
		}
		n += copy(dst[n:], part.ReadOnlyData())
	}
	return n
}

// chunkOf gives the data of a frame that is a chunk.
func chunkOf(f frame) ([]byte, bool) {
	switch f := f.(type) {
	case *wire.FromLearner:
		if c, ok := f.Body.(*wire.FromLearner_Chunk); ok {
			return c.Chunk.GetData(), true
		}
	case *wire.ToLearner:
		if c, ok := f.Body.(*wire.ToLearner_Chunk); ok {
			return c.Chunk.GetData(), true
		}
	}
	return nil, false
}

// hasBody says whether the frame's oneof is set, to something known here.
func hasBody(f frame) bool {
	switch f := f.(type) {
	case *wire.FromLearner:
		return f.Body != nil
	case *wire.ToLearner:
		return f.Body != nil
	}
	return false
}
