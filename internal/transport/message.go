package transport

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/mistura-project/mistura/internal/wire"
)

// Limits of a frame, in bytes.
const (
	// MaxFrameBytes bounds one frame on the wire, and so a message without its payload.
	MaxFrameBytes = 4 << 20
	// ChunkBytes is how much of a payload goes into one chunk frame.
	ChunkBytes = 1 << 20
)

// Errors of this package; each comes wrapped with what was being done.
var (
	// ErrClosed: the session was closed on this side, or is being closed.
	ErrClosed = errors.New("session closed")
	// ErrQueueFull: the other side takes less than is sent to it.
	ErrQueueFull = errors.New("send queue full")
	// ErrStalled: the other side took nothing for StallTimeout.
	ErrStalled = errors.New("peer stopped reading")
	// ErrSilent: the other side of a call sent nothing for StallTimeout.
	ErrSilent = errors.New("peer stopped sending")
	// ErrMalformed: the other side sent what the protocol does not allow.
	ErrMalformed = errors.New("malformed input")
	// ErrLost: the connection broke.
	ErrLost = errors.New("connection lost")
)

// Up is one message of a learner. Send fills Origin and the payload's digest
// where they are empty, and the payload's length. Who sends one payload many
// times gives wire.Digest of it.
type Up struct {
	*wire.FromLearner
	Payload []byte // belongs to the transport after Send: do not change it
	Damaged bool   // received, and the payload's digest was another than announced
}

// Down is one message to a learner; its fields are those of Up.
type Down struct {
	*wire.ToLearner
	Payload []byte
	Damaged bool
}

// frame is what both directions have in common.
type frame interface {
	proto.Message
	GetOrigin() *wire.Origin
	GetPayloadBytes() uint64
	GetPayloadDigest() []byte
}

// item is a message on its way out.
type item struct {
	head    frame // a copy that the transport owns
	payload []byte
	size    int64 // what it counts for in a queue, bytes
}

// itemOverheadBytes is charged for each queued message beside its contents.
const itemOverheadBytes = 256

// newItem measures a message; head must belong to the transport.
func newItem(head frame, payload []byte) (item, error) {
	n := proto.Size(head)
	if n > MaxFrameBytes-64 { // the digest is still to come
		return item{}, fmt.Errorf("transport: message of %d bytes, at most %d go into a frame: put it into the payload", n, MaxFrameBytes)
	}
	return item{head: head, payload: payload, size: int64(n) + int64(len(payload)) + itemOverheadBytes}, nil
}

// seal adds the digest of the payload unless the sender gave it.
func (it item) seal() {
	if len(it.payload) == 0 || len(it.head.GetPayloadDigest()) != 0 {
		return
	}
	switch h := it.head.(type) {
	case *wire.FromLearner:
		h.PayloadDigest = wire.Digest(it.payload)
	case *wire.ToLearner:
		h.PayloadDigest = wire.Digest(it.payload)
	}
}

// upItem copies m so that the caller's message stays as it is.
func upItem(m Up, origin *wire.Origin) (item, error) {
	if m.FromLearner.GetBody() == nil {
		return item{}, errors.New("transport: message without a body")
	}
	head := &wire.FromLearner{Origin: m.Origin, PayloadBytes: uint64(len(m.Payload)), PayloadDigest: m.PayloadDigest, Body: m.Body}
	if head.Origin == nil {
		head.Origin = origin
	}
	return newItem(head, m.Payload)
}

// downItem copies m so that one message can be sent to many peers.
func downItem(m Down, origin *wire.Origin) (item, error) {
	if m.ToLearner.GetBody() == nil {
		return item{}, errors.New("transport: message without a body")
	}
	head := &wire.ToLearner{Origin: m.Origin, PayloadBytes: uint64(len(m.Payload)), PayloadDigest: m.PayloadDigest, Body: m.Body}
	if head.Origin == nil {
		head.Origin = origin
	}
	return newItem(head, m.Payload)
}
