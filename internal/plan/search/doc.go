// Package search finds the cheapest or fastest way to train a model on a fleet: which
// pools, how many chips of each, how many islands, and the layout of each island.
//
// Enter with [Run]. It is exact: of all that its grid holds it finds what trying everything
// would (a test does). The grid:
//
//   - Islands. One, or as many as the fleet file allows, up to 16 each number, beyond that 24,
//     32, 48 and so on. Each is in one pool; islands of a pool are alike. Sizes: 1, 2, 4 … chips
//     within a host, 2ⁿ and 3·2ⁿ hosts, and equal parts of the pool in whole hosts. A lone island needs no
//     permission, for it is the plain run.
//   - Period. The longest that the number of islands may have: longer is always cheaper.
//   - Batch. Of a lone island exactly the task's. Of n islands each takes as much of an nth
//     as its layout divides. Islands go at their own speed and share the tokens by it.
//   - Layouts. tp up to 16 within the chips' fast links; cp of powers of two that leave 4,096
//     tokens a rank; every pp, layers dealt evenly, embedding and head counting for one where that helps; every ep, experts whole or cut by tp; every
//     vpp up to 12 that divides the layers and the micro-batches; micro-batches of 1, 2, 4, 8,
//     16; ZeRO 0 to 3, with a pipeline 0 and 1; recomputation none, selective, full; sequence
//     parallelism on. A twentieth of each chip's memory stays free.
//
// An island has the fastest layout that fits, so that plans differ in pools, chips and
// islands. Equal plans stand in the order of fewer islands, fewer chips, earlier pools; equal
// layouts in that of less. The answer does not depend on how much is done at the same time.
package search
