package transport

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/mistura-project/mistura/internal/wire"
)

// Peers that speak plain gRPC, or nonsense, instead of using Conn.

type rawStream = grpc.BidiStreamingClient[wire.FromLearner, wire.ToLearner]

// rawSession opens a stream with gRPC's own codec, as a client in another language would.
func rawSession(t testing.TB, address string, opts ...grpc.CallOption) rawStream {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(func() { cancel(); cc.Close() })
	stream, err := wire.NewExchangeClient(cc).Session(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// rawPeer is a raw session that has said hello.
func rawPeer(t testing.TB, r *recorder, j wire.Join, opts ...grpc.CallOption) (*Peer, rawStream) {
	t.Helper()
	stream := rawSession(t, j.Address, opts...)
	if err := stream.SendMsg(helloFrame()); err != nil {
		t.Fatal(err)
	}
	return r.wantHello(t).peer, stream
}

func helloFrame() *wire.FromLearner {
	return &wire.FromLearner{
		Origin: &wire.Origin{Protocol: wire.Protocol, RunId: runID},
		Body:   &wire.FromLearner_Hello{Hello: &wire.Hello{Secret: secret}},
	}
}

func headFrame(bytes uint64, digest []byte) *wire.FromLearner {
	m := upN(1, nil).FromLearner
	m.Origin = &wire.Origin{Protocol: wire.Protocol, RunId: runID}
	m.PayloadBytes, m.PayloadDigest = bytes, digest
	return m
}

func chunkFrame(data []byte) *wire.FromLearner {
	return &wire.FromLearner{Body: &wire.FromLearner_Chunk{Chunk: &wire.Chunk{Data: data}}}
}

// bytesCodec sends []byte as they are.
type bytesCodec struct{ codec }

func (c bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.codec.Marshal(v)
}

func TestPlainGRPCClientTakesPart(t *testing.T) {
	r, _, j := serve(t, Options{})
	p, stream := rawPeer(t, r, j)
	payload := noise(3, 100)
	frames := []*wire.FromLearner{headFrame(100, wire.Digest(payload)), chunkFrame(payload[:60]), chunkFrame(payload[60:])}
	frames[1].Origin = frames[0].Origin // allowed, and not what Conn writes
	for _, f := range frames {
		if err := stream.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	if e := r.next(t); !bytes.Equal(e.up.Payload, payload) || e.up.Damaged {
		t.Errorf("got %+v", e)
	}
	if err := p.Send(downN(5, payload)); err != nil {
		t.Fatal(err)
	}
	head, err := stream.Recv()
	if err != nil || head.GetPayloadBytes() != 100 || head.GetCapture().GetCheckpoint() != 5 {
		t.Fatalf("head %v, %v", head, err)
	}
	part, err := stream.Recv()
	if err != nil || !bytes.Equal(part.GetChunk().GetData(), payload) {
		t.Errorf("chunk %v, %v", part, err)
	}
}

func TestMalformedInputClosesThatSessionOnly(t *testing.T) {
	const limit = 1000
	digest := wire.Digest(nil)
	stray := headFrame(0, nil)
	stray.Origin = &wire.Origin{Protocol: wire.Protocol, RunId: "other"}
	cases := []struct {
		name   string
		frames []any
		want   string
	}{
		{"chunk without a message", []any{chunkFrame([]byte("x"))}, "chunk of 1 bytes where 0 are missing"},
		{"chunk too long", []any{headFrame(3, digest), chunkFrame([]byte("four"))}, "chunk of 4 bytes where 3 are missing"},
		{"empty chunk", []any{headFrame(3, digest), chunkFrame(nil)}, "chunk of 0 bytes"},
		{"message inside a payload", []any{headFrame(3, digest), chunkFrame([]byte("x")), headFrame(0, nil)}, "a new message after 1 of 3 bytes"},
		{"payload over the limit", []any{headFrame(limit+1, digest)}, "payload of 1001 bytes announced, at most 1000"},
		{"payload beyond int64", []any{headFrame(1<<63+1, digest)}, "at most 1000"},
		{"no digest", []any{headFrame(3, nil)}, "payload digest of 0 bytes, want 32"},
		{"not protobuf", []any{[]byte{0xff, 0xff, 0xff}}, "malformed input"},
		{"cut chunk", []any{headFrame(3, digest), []byte{0x6a, 0x05, 0x0a, 0x03, 'a'}}, "malformed input"},
		{"frame over the limit", []any{make([]byte, MaxFrameBytes+1)}, "larger than max"},
		{"another run", []any{stray}, `wants run "other", the coordinator here runs "r7f3"`},
	}
	r, _, j := serve(t, Options{MaxPayloadBytes: limit})
	bystander, _ := rawPeer(t, r, j)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, stream := rawPeer(t, r, j, grpc.ForceCodecV2(bytesCodec{}))
			for _, f := range c.frames {
				if err := stream.SendMsg(f); err != nil {
					t.Fatal(err)
				}
			}
			e := r.wantGone(t)
			if !errors.Is(e.err, ErrMalformed) || !strings.Contains(e.err.Error(), c.want) {
				t.Errorf("gone: %v, want ErrMalformed with %q", e.err, c.want)
			}
			_, err := stream.Recv()
			if code := status.Code(err); code != codes.InvalidArgument && code != codes.ResourceExhausted {
				t.Errorf("the peer was told %v", err)
			}
		})
	}
	select {
	case <-bystander.Done():
		t.Error("another session was closed too")
	default:
	}
}

// What a later version may add is passed over, its payload too.
func TestUnknownBodyIsPassedOver(t *testing.T) {
	r, _, j := serve(t, Options{})
	_, stream := rawPeer(t, r, j, grpc.ForceCodecV2(bytesCodec{}))
	unknown := headFrame(3, wire.Digest(nil))
	unknown.Body = nil
	unknown.ProtoReflect().SetUnknown([]byte{0xa2, 0x06, 0x00}) // field 100, empty
	for _, f := range []any{unknown, chunkFrame([]byte("abc")), []byte{0xa2, 0x06, 0x00}, headFrame(0, nil)} {
		if err := stream.SendMsg(f); err != nil {
			t.Fatal(err)
		}
	}
	if e := r.next(t); e.gone || e.up.GetIdle().GetPosition() != 1 {
		t.Errorf("got %+v", e)
	}
}

func TestPayloadThatEndsEarly(t *testing.T) {
	r, _, j := serve(t, Options{})
	_, stream := rawPeer(t, r, j)
	for _, f := range []*wire.FromLearner{headFrame(10, wire.Digest(nil)), chunkFrame([]byte("four"))} {
		if err := stream.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if e := r.wantGone(t); !errors.Is(e.err, ErrMalformed) || !strings.Contains(e.err.Error(), "after 4 of 10 bytes") {
		t.Errorf("gone: %v", e.err)
	}
}

func TestSilentPeerIsClosed(t *testing.T) {
	_, _, j := serve(t, Options{HelloTimeout: 20 * time.Millisecond})
	stream := rawSession(t, j.Address)
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "no hello within 20ms") {
		t.Errorf("got %v", err)
	}
}

// A coordinator of another run that answers on a reused port must not be believed.
func TestClientRefusesFramesOfAnotherRun(t *testing.T) {
	_, p, c := pair(t, Options{}, Dialer{})
	m := downN(1, nil)
	m.Origin = &wire.Origin{Protocol: wire.Protocol, RunId: "other"}
	if err := p.Send(m); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(withPatience(t)); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), `"other"`) || !strings.Contains(err.Error(), runID) {
		t.Errorf("got %v", err)
	}
}
