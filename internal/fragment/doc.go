// Package fragment says which tensors make up which fragment of a model, and
// moves them between the model's flat vector and the fragment's own. Learner and
// syncer use the same partition, so that a fragment is the same bytes to both.
package fragment
