// Package outer is the arithmetic of the exchange: which tensors form a fragment,
// the pseudo-gradient that a learner sends, the token-weighted mean of several of
// them, the share of a merge, the outer step and the rebase with which a learner
// adopts its result. Callers pass slices; nothing here knows about messages,
// files or time, and nothing allocates per element.
//
// Letters: Θ global weights, θ a learner's weights, Δ a pseudo-gradient, b the
// outer momentum, η the outer rate, μ the momentum factor, σ the share.
//
// Bits matter here. Learners and syncer must hold the same Θ, and a run with one
// island at η 1, μ 0 must be the plain run to the last bit (rule D5). Therefore
// everything is fp32 in a fixed order, and each product is rounded explicitly by
// float32(), because Go would otherwise fuse x*y+z on some architectures.
//
// Sources: outer Nesterov steps on pseudo-gradients are from DiLoCo (Douillard et
// al. 2023, arXiv 2311.08105, algorithm 1); merging without a barrier, weighed by
// tokens, from Decoupled DiLoCo (arXiv 2604.21428). The share is our own.
package outer
