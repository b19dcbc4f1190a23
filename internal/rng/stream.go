package rng

// Purpose keeps the draws of different parts of a run apart. The numbers are
// durable: changing one changes every run that is repeated from its seed.
type Purpose uint16

// The purposes and what index means in each.
const (
	Init        Purpose = 1 // initial weights; index = tensor in model order
	SampleOrder Purpose = 2 // order of training windows; index = epoch
	Sampling    Purpose = 3 // text generation; index = position of the token
	Routing     Purpose = 4 // stochastic routing; index = sample
	Test        Purpose = 5 // tests and benchmarks
	Retry       Purpose = 6 // when a withheld step is tried again; index = how many were withheld before
	Gate        Purpose = 7 // tokens of the probe at the door; index = row
	GateSigns   Purpose = 8 // signs of projections; index = tensor in model order
	GateWeights Purpose = 9 // gains of norms in sharpened weights; index = tensor in model order
)

// Stream is the sequence of random numbers of one (seed, purpose, index).
// It holds 2^49 words of 32 bits. A Stream is not safe for
// concurrent use; streams are cheap, so open one for each worker's index.
type Stream struct {
	key     [2]uint32
	purpose Purpose
	index   uint64
	block   uint64 // number of the next block of four words, 48 bits
	words   [4]uint32
	next    int // first unread word, 4 when the block is used up
}

// New opens the stream of (seed, purpose, index) at its first number.
func New(seed uint64, p Purpose, index uint64) *Stream {
	return &Stream{key: keyOf(seed), purpose: p, index: index, next: 4}
}

// Uint32 is uniform over 32 bits. It takes one word of the stream.
func (s *Stream) Uint32() uint32 {
	if s.next == len(s.words) {
		s.words = philox([4]uint32{
			uint32(s.block),
			uint32(s.purpose)<<16 | uint32(s.block>>32)&0xFFFF,
			uint32(s.index),
			uint32(s.index >> 32),
		}, s.key)
		s.block++
		s.next = 0
	}
	w := s.words[s.next]
	s.next++
	return w
}

// Skip passes over the next n words, at a cost that does not depend on n.
func (s *Stream) Skip(n uint64) {
	at := s.block*4 + n
	if s.next < len(s.words) {
		at -= uint64(len(s.words) - s.next)
	}
	s.block, s.next = at/4, len(s.words)
	for range at % 4 {
		s.Uint32()
	}
}

// Uint64 is uniform over 64 bits. It takes two words, the low half first.
func (s *Stream) Uint64() uint64 {
	low := s.Uint32()
	return uint64(s.Uint32())<<32 | uint64(low)
}

// Float64 is uniform over the multiples of 2^-53 in [0, 1). It takes two words.
func (s *Stream) Float64() float64 {
	return float64(s.Uint64()>>11) * 0x1p-53
}

// Normal is normally distributed with mean 0 and deviation 1, within ±8.3.
// It takes two words whatever the outcome, so the position of a draw in the
// stream is known beforehand.
func (s *Stream) Normal() float64 {
	// Centres of 2^52 equal cells: never 0 or 1, symmetric about 1/2, exact.
	return quantile((float64(s.Uint64()>>12) + 0.5) * 0x1p-52)
}
