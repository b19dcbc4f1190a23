package attach

import "context"

// Seed asks a rank, in place of the answer to its hello, for all that it sends of the
// model: version 0 of a run that has none. Seeded says that it is there.
type Seed struct {
	Shm Area    `json:"shm"`
	Out []int64 `json:"out"` // by piece, in bytes; -1: not asked for
}

// Seeded answers Seed; what follows is the answer to hello.
type Seeded struct{}

// Lend asks the rank for its pieces of so many elements and waits for them: views by piece,
// nil where the rank gives nothing. They are there until release is called.
func (r *Rank) Lend(ctx context.Context, sizes []int) (pieces [][]float32, release func(), err error) {
	s := &Seed{Out: make([]int64, len(sizes))}
	var bytes int64
	for i, n := range sizes {
		if s.Out[i] = -1; r.Hello.Pieces[i].Replica == 0 {
			s.Out[i] = bytes
			bytes += (4*int64(n) + alignBytes - 1) / alignBytes * alignBytes
		}
	}
	m, err := share(max(bytes, alignBytes))
	if err != nil {
		return nil, nil, err
	}
	r.tellSpilt(m)
	s.Shm = Area{Path: m.path, Bytes: int64(len(m.bytes))}
	r.lending.Store(true)
	if err := r.Send(s); err != nil {
		m.close()
		return nil, nil, err
	}
	select {
	case <-r.seeded:
	case <-ctx.Done():
		m.close()
		return nil, nil, context.Cause(ctx)
	}
	pieces = make([][]float32, len(sizes))
	for i, n := range sizes {
		if s.Out[i] >= 0 {
			pieces[i] = m.floats(s.Out[i], n)
		}
	}
	return pieces, m.close, nil
}
