package transport

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/wire"
)

func bufferOf(b []byte) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(b)} }

// The short cut of the codec writes what protobuf writes.
func TestChunkIsEncodedAsProtobuf(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 128, 16382, 16383, 16384, ChunkBytes} {
		data := noise(uint64(n), n)
		want, err := proto.Marshal(chunkFrame(data))
		if err != nil {
			t.Fatal(err)
		}
		if got := (chunk{tag: upward().chunkTag, data: data}).encode().Materialize(); n > 0 && !bytes.Equal(got, want) {
			t.Errorf("%d bytes up: got %x…, want %x…", n, got[:min(12, len(got))], want[:min(12, len(want))])
		}
		down, err := proto.Marshal(&wire.ToLearner{Body: &wire.ToLearner_Chunk{Chunk: &wire.Chunk{Data: data}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := (chunk{tag: downward().chunkTag, data: data}).encode().Materialize(); n > 0 && !bytes.Equal(got, down) {
			t.Errorf("%d bytes down: got %x…, want %x…", n, got[:min(12, len(got))], down[:min(12, len(down))])
		}
	}
}

// Frames may come in any pieces; the short cut must not depend on them.
func TestChunkDecodesFromAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "data")
		frame := (chunk{tag: upward().chunkTag, data: data}).encode().Materialize()
		var pieces mem.BufferSlice
		for len(frame) > 0 {
			n := rapid.IntRange(1, len(frame)).Draw(t, "piece")
			pieces = append(pieces, mem.SliceBuffer(frame[:n]))
			frame = frame[n:]
		}
		a := newAssembler(upward(), 1000, new(room))
		if err := a.begin(headFrame(uint64(len(data)), wire.Digest(data))); err != nil {
			t.Fatal(err)
		}
		_, payload, damaged, err := a.next(func(v any) error { return codec{}.Unmarshal(pieces, v) })
		if err != nil || damaged || !bytes.Equal(payload, data) {
			t.Fatalf("got %x (damaged: %v), %v; want %x", payload, damaged, err, data)
		}
	})
}

// split reads a fuzz input as frames: a length byte, then so many bytes.
func split(input []byte) [][]byte {
	var frames [][]byte
	for len(input) > 0 {
		n := min(int(input[0]), len(input)-1)
		frames = append(frames, input[1:1+n])
		input = input[1+n:]
	}
	return frames
}

// join is the inverse of split.
func join(frames ...proto.Message) []byte {
	var out []byte
	for _, f := range frames {
		b, err := proto.Marshal(f)
		if err != nil {
			panic(err)
		}
		out = append(append(out, byte(len(b))), b...)
	}
	return out
}

// assembled is what came out of one input.
type assembled struct {
	heads    []string
	payloads [][]byte
	damaged  []bool
	failed   bool
}

// assembleAll runs frames through an assembler to its first error.
func assembleAll(t *testing.T, d direction, frames [][]byte) assembled {
	const limit = 1 << 16
	a := newAssembler(d, limit, new(room))
	received := 0
	recv := func(v any) error {
		if len(frames) == 0 {
			return io.EOF
		}
		f := frames[0]
		frames = frames[1:]
		received += len(f)
		err := codec{}.Unmarshal(bufferOf(f), v)
		if cap(a.payload) > growth*received {
			t.Fatalf("room for %d bytes after %d", cap(a.payload), received)
		}
		return err
	}
	var out assembled
	for {
		head, payload, damaged, err := a.next(recv)
		if err != nil {
			out.failed = err != io.EOF
			return out
		}
		if uint64(len(payload)) != head.GetPayloadBytes() || len(payload) > limit {
			t.Fatalf("%d bytes for %d announced", len(payload), head.GetPayloadBytes())
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(head)
		if err != nil {
			t.Fatal(err)
		}
		out.heads = append(out.heads, string(b))
		out.payloads = append(out.payloads, payload)
		out.damaged = append(out.damaged, damaged)
	}
}

// Any bytes as frames: no panic, memory bounded by what arrived, and the short
// cut agrees with its slow twin, which decodes every frame as a protobuf message.
func FuzzAssemble(f *testing.F) {
	payload := []byte("payload of a fragment")
	head := headFrame(uint64(len(payload)), wire.Digest(payload))
	f.Add(join(helloFrame(), head, chunkFrame(payload[:9]), chunkFrame(payload[9:]), headFrame(0, nil)))
	f.Add(join(head, chunkFrame(payload[:5]), headFrame(0, nil)))
	f.Add(join(head, chunkFrame(append(payload, 'x'))))
	f.Add(join(headFrame(1<<60, wire.Digest(nil))))
	f.Add(join(chunkFrame(nil)))
	f.Add(append(join(head), 6, 0x6a, 0x04, 0x0a, 0x02, 'a', 'b'))
	f.Add(append(join(head), 8, 0x6a, 0x06, 0x0a, 0x01, 'a', 0x0a, 0x01, 'b'))
	f.Add(append(join(head), binary.AppendUvarint([]byte{12, 0x6a}, 1<<63)...))
	f.Fuzz(func(t *testing.T, input []byte) {
		got := assembleAll(t, upward(), split(input))
		twin := upward()
		twin.chunkTag = 0 // no field has it: the short cut is never taken
		want := assembleAll(t, twin, split(input))
		if got.failed != want.failed || len(got.heads) != len(want.heads) {
			t.Fatalf("short cut: %d messages, failed %v; twin: %d, %v", len(got.heads), got.failed, len(want.heads), want.failed)
		}
		for i := range got.heads {
			if got.heads[i] != want.heads[i] || !bytes.Equal(got.payloads[i], want.payloads[i]) || got.damaged[i] != want.damaged[i] {
				t.Fatalf("message %d differs", i)
			}
		}
	})
}

// The danger: a model of more than 1 B parameters in 4 fragments cannot be seeded, because the
// learner takes no such payload, and cannot be flushed, because its queue takes no second one.
func TestPayloadsOfLargeModels(t *testing.T) {
	const fragment = 7 << 30 // of 7 B parameters
	d := Dialer{}.withDefaults()
	a := newAssembler(downward(), d.MaxPayloadBytes, new(room))
	head := downN(1, nil).ToLearner
	head.PayloadBytes, head.PayloadDigest = fragment, wire.Digest(nil)
	if err := a.begin(head); err != nil {
		t.Fatal(err)
	}
	if err := a.fill(bufferOf(make([]byte, ChunkBytes)), 0); err != nil || cap(a.payload) > growth*ChunkBytes {
		t.Errorf("%v; %d bytes are taken for the first %d", err, cap(a.payload), ChunkBytes)
	}
	box := newOutbox(d.MaxQueuedBytes)
	for range 4 {
		if err := box.put(item{size: fragment}); err != nil {
			t.Fatal(err)
		}
	}
}
