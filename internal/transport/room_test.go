package transport

import (
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// Memory is with one owner at a time, is long enough and not far too long, and little of it is kept.
func TestRoomLendsMemoryOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r room
		var lent [][]byte
		most := int64(0) // of any payload
		sizes := rapid.IntRange(1, 5*roomMinBytes)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := sizes.Draw(t, "bytes")
			b := r.take(n)
			if b == nil {
				b = make([]byte, 0, n)
			}
			twice := slices.ContainsFunc(lent, func(o []byte) bool { return unsafe.SliceData(o) == unsafe.SliceData(b) })
			if twice || len(b) != 0 || cap(b) < n || cap(b) > 2*n+1 {
				t.Fatalf("%d bytes: length %d, capacity %d, lent already: %v", n, len(b), cap(b), twice)
			}
			lent = append(lent, b)
			if i := rapid.IntRange(0, 2*len(lent)).Draw(t, "given back"); i < len(lent) {
				r.give(lent[i][:cap(lent[i])])
				lent = slices.Delete(lent, i, i+1)
			}
			kept := int64(0)
			for _, b := range r.free {
				kept += int64(cap(b))
			}
			if most = max(most, int64(n)); kept > RoomBytes(most) {
				t.Fatalf("%d bytes are kept, %d are announced", kept, RoomBytes(most))
			}
		}
	})
}

// A payload that fits comes into memory that was given back.
func TestAssemblerUsesRoom(t *testing.T) {
	var r room
	given := make([]byte, roomMinBytes+1)
	r.give(given)
	a := newAssembler(upward(), 1<<20, &r)
	if err := a.begin(headFrame(roomMinBytes, make([]byte, 32))); err != nil {
		t.Fatal(err)
	}
	if unsafe.SliceData(a.payload) != unsafe.SliceData(given) || len(a.payload) != 0 {
		t.Error("other memory was made")
	}
}
