package rng

import "math/bits"

// feistelRounds: four already give a pseudo-random permutation when the round
// function is random (Luby and Rackoff 1988); twice as many keep tiny ranges,
// where a round flips only a bit or two, well mixed too.
const feistelRounds = 8

// permuteMark keeps the counters of Permute apart from those of streams, whose
// block number stays below 2^47 in any real use.
const permuteMark = 1 << 15

// Permute gives place i of a pseudo-random order of 0 … n-1: for fixed seed,
// purpose, epoch and n it is a bijection on [0, n). It needs no memory and takes
// below a microsecond. It panics unless i < n.
//
// Source: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA
// 2002: a Feistel network over the next power of two; values outside the range
// are mapped again until they fall inside (cycle walking, at most two tries on
// average).
func Permute(seed uint64, p Purpose, epoch uint64, n, i uint64) uint64 {
	if i >= n {
		panic("rng: Permute: place outside the range")
	}
	f := feistel{key: keyOf(seed), purpose: p, epoch: epoch}
	width := uint(bits.Len64(n - 1))
	f.lowBits = (width + 1) / 2
	f.highBits = width - f.lowBits
	for i = f.apply(i); i >= n; {
		i = f.apply(i)
	}
	return i
}

// feistel permutes the numbers below 2^(highBits+lowBits).
type feistel struct {
	key               [2]uint32
	purpose           Purpose
	epoch             uint64
	highBits, lowBits uint // at most 32 each
}

func (f *feistel) apply(x uint64) uint64 {
	highMask, lowMask := uint64(1)<<f.highBits-1, uint64(1)<<f.lowBits-1
	high, low := x>>f.lowBits, x&lowMask
	for round := uint32(0); round < feistelRounds; round += 2 {
		high ^= f.mix(low, round) & highMask
		low ^= f.mix(high, round+1) & lowMask
	}
	return high<<f.lowBits | low
}

// mix is the round function.
func (f *feistel) mix(half uint64, round uint32) uint64 {
	w := philox([4]uint32{
		uint32(half),
		uint32(f.purpose)<<16 | permuteMark | round,
		uint32(f.epoch),
		uint32(f.epoch >> 32),
	}, f.key)
	return uint64(w[0])
}
