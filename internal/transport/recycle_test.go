package transport

import (
	"bytes"
	"testing"
	"unsafe"
)

func TestRecycler(t *testing.T) {
	r := &recycler{limit: 3 << 20}
	one, two := make([]byte, 1<<20), make([]byte, 2<<20)
	r.put(one)
	r.put(two)
	r.put(make([]byte, 100))   // too small to keep
	r.put(make([]byte, 4<<20)) // larger than all that is kept
	for _, n := range []int{0, 1, 1 << 18, 3 << 20} {
		if b := r.get(n); b != nil {
			t.Errorf("for %d bytes: a buffer of %d", n, cap(b))
		}
	}
	if b := r.get(1 << 20); len(b) != 0 || unsafe.SliceData(b) != unsafe.SliceData(two) { // the newest that fits
		t.Errorf("for 1 MiB: a buffer of %d", cap(b))
	}
	if b := r.get(1 << 20); unsafe.SliceData(b) != unsafe.SliceData(one) {
		t.Errorf("then a buffer of %d", cap(b))
	}
	if b := r.get(1 << 20); b != nil || r.kept != 0 {
		t.Errorf("then %d bytes, %d kept", cap(b), r.kept)
	}
	r.put(one)
	r.put(two)
	r.put(make([]byte, 1<<20)) // pushes the oldest out
	if r.kept != 3<<20 || len(r.free) != 2 {
		t.Errorf("%d bytes kept in %d buffers", r.kept, len(r.free))
	}
}

// A buffer that was given back is filled with the next payload and nothing of
// the last one shows.
func TestRecycledPayload(t *testing.T) {
	r, p, c := pair(t, Options{}, Dialer{})
	var first []byte
	for i, n := range []int{2 << 20, 2<<20 - 5, 2 << 20} {
		want := noise(uint64(i), n)
		if err := c.Send(upN(uint64(i), want)); err != nil {
			t.Fatal(err)
		}
		got := r.next(t).up
		if !bytes.Equal(got.Payload, want) || got.Damaged {
			t.Fatalf("payload %d differs", i)
		}
		if i == 0 {
			first = got.Payload
		} else if unsafe.SliceData(got.Payload) != unsafe.SliceData(first) {
			t.Errorf("payload %d lies in new memory", i)
		}
		p.server.Recycle(got.Payload)
	}
}
