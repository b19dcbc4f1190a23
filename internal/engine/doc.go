// Package engine is the native engine: it trains and runs the models that
// package model describes, in fp32 on the CPU.
//
// Enter with [New], fill [Engine.Params] ([InitParams] or a checkpoint), then
// per step [Engine.ZeroGrads], [Engine.Backward] for each micro-batch,
// [Engine.ScaleGrads], [AdamW.Step] and [Engine.UpdateState]. [Engine.Loss] evaluates and
// [Engine.Generate] writes text.
//
// # What it computes
//
// A decoder-only Mixture of Experts of the Ling family (arXiv 2503.05139):
//
//	x = embedding[token]
//	per layer:  x += attention(norm(x));  x += mlp(norm(x))
//	logits = head · norm(x)
//
// with RMSNorm, grouped-query attention with rotary positions (element i of a
// head is paired with element i + R/2, R of them turning), SwiGLU experts of which each token
// visits the TopK with the largest router logits (a tie goes to the lowest
// number), a shared MLP, and no token ever dropped. Routers are softmax or sigmoid,
// with groups of experts, a bias and a routing warm-up if the configuration has
// them. With NormHead the columns of the head are divided by their L2 norm over the
// vocabulary plus 1e-7; no gradient flows through that norm.
//
// # Losses
//
// Backward adds the gradient of
//
//	Σ target tokens cross-entropy + Σ sequences n · Σ MoE layers (BalanceCoef · B + ZCoef · Z)
//
// for sequences of n target tokens, so that dividing by the number of target tokens
// gives the gradient of a mean whatever the batch was cut into. All T inputs of a
// sequence are targets except the ends of documents ([Batch]). Both router losses
// are computed within one sequence, over all its inputs:
//
//   - B = E · Σ_e f_e · P_e, f_e the fraction of the sequence's TopK·T choices
//     that fell on expert e, P_e the mean of its score, scores scaled to sum 1
//     per token. B is 1.0 at perfect balance; the other convention, which does not
//     divide f_e by TopK, reads TopK there: a coefficient c of it is c·TopK here.
//   - Z = mean over tokens of (log Σ_e exp logit_e)², for both kinds of router.
//
// # Determinism
//
// The bits of every result depend on parameters, tokens and kernel set only.
// Work is cut into blocks of constant size (blocks.go), each written by one
// worker. A gradient element is one chain of additions over the tokens in rising
// order, carried from call to call: neither the number of threads nor the cut of
// a batch into calls changes it. Products are rounded before they are added
// wherever the compiler could fuse them.
//
// Values that are not finite are passed on, never masked: a NaN weight gives a
// NaN loss and a NaN gradient norm.
//
// The package must not read clocks or files, choose data or rates, or start
// goroutines that outlive Close.
package engine
