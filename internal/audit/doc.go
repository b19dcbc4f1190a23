// Package audit checks a run from its tape alone: no contribution is merged twice
// and versions rise by one (S1), every sample is in the history of a fragment at
// most once, and every sample that counts as consumed is held by exactly one
// incarnation and can be found in the model (S2).
//
// Enter at run.go. It reads the records that coord and syncer write, and shares
// none of their reasoning: a fault in their bookkeeping is one here, too, only when
// it is on the tape. It is pure.
package audit
