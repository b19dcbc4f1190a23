package transport

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// codec is the protobuf encoding that gRPC expects, with a short cut for chunk
// frames: their bytes go out from where they lie and come in to where they
// belong, without a copy into a message. On the wire there is no difference, so
// any gRPC client that knows mistura.proto can take part.
type codec struct{}

// Name implements encoding.CodecV2; the content type stays application/grpc+proto.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case chunk:
		return m.encode(), nil
	case proto.Message:
		b, err := proto.Marshal(m)
		if err != nil {
			return nil, err
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return nil, fmt.Errorf("transport: cannot encode %T", v)
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *assembler:
		m.decode(data)
		return nil
	case proto.Message:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		return proto.Unmarshal(buf.ReadOnlyData(), m)
	}
	return fmt.Errorf("transport: cannot decode into %T", v)
}

// direction tells the two kinds of frames apart.
type direction struct {
	chunkTag byte // key of the field that holds a Chunk: number<<3 | 2
	newFrame func() frame
}

// chunkDataTag is the key of Chunk.data.
const chunkDataTag = 1<<3 | 2

// chunk is a part of a payload, sent as FromLearner{chunk: {data: …}} or ToLearner{chunk: {data: …}}.
type chunk struct {
	tag  byte
	data []byte
}

// encode writes the two nested field headers and refers to the data.
func (c chunk) encode() mem.BufferSlice {
	inner := binary.AppendUvarint([]byte{chunkDataTag}, uint64(len(c.data)))
	head := binary.AppendUvarint(make([]byte, 1, 24), uint64(len(inner)+len(c.data)))
	head[0] = c.tag
	return mem.BufferSlice{mem.SliceBuffer(append(head, inner...)), mem.SliceBuffer(c.data)}
}

// chunkHeaderBytes is the most that the two field headers of a chunk frame take.
const chunkHeaderBytes = 2 + 2*binary.MaxVarintLen32

// chunkHeader says where the data of a frame begins when it is a chunk as encode
// writes it. total is the length of the whole frame, b its first bytes. Other
// encodings of a chunk are left to the general decoder.
func chunkHeader(b []byte, total int, tag byte) (skip int, ok bool) {
	if len(b) == 0 || b[0] != tag {
		return 0, false
	}
	outer, n := binary.Uvarint(b[1:])
	if n <= 0 || outer != uint64(total-1-n) {
		return 0, false
	}
	at := 1 + n
	if at >= len(b) || b[at] != chunkDataTag {
		return 0, false
	}
	inner, n := binary.Uvarint(b[at+1:])
	if n <= 0 || inner != uint64(total-at-1-n) {
		return 0, false
	}
	return at + 1 + n, true
}
