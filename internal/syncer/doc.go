// Package syncer decides about fragments: when one is due, which contributions
// are merged, which are dropped or refused, and what goes onto the tape. It is
// pure and holds descriptors only, never a tensor: a merge is an effect, its
// digest comes back as an input.
//
// Enter at state.go (the machine), then round.go (due, call, close a round),
// refuse.go (step 1 of the merge) and commit.go (one thing at a time onto the
// tape). Source: Decoupled DiLoCo (arXiv 2604.21428) as DESIGN section 4 has it.
package syncer
