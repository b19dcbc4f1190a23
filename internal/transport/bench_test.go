package transport

import (
	"fmt"
	"testing"
)

// One payload at a time from a learner to the coordinator over loopback, both
// digests included.
func BenchmarkPayload(b *testing.B) {
	for _, mib := range []int{3, 32, 256} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			r, _, c := pair(b, Options{}, Dialer{})
			m := upN(1, noise(1, mib<<20))
			b.SetBytes(int64(len(m.Payload)))
			for b.Loop() {
				if err := c.Send(m); err != nil {
					b.Fatal(err)
				}
				if e := r.next(b); e.up.Damaged || len(e.up.Payload) != len(m.Payload) {
					b.Fatalf("got %+v", e)
				}
			}
		})
	}
}

// A message without a payload there and back.
func BenchmarkRoundTrip(b *testing.B) {
	r, p, c := pair(b, Options{}, Dialer{})
	ctx := b.Context()
	for b.Loop() {
		if err := c.Send(upN(1, nil)); err != nil {
			b.Fatal(err)
		}
		r.next(b)
		if err := p.Send(downN(1, nil)); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Recv(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
