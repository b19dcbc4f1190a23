// Package spike is the spike rule of one learner: whether an inner step is applied,
// from its loss and gradient norm and the losses before it. It is pure.
//
// Enter at rule.go. What becomes of the samples, and when spikes of many learners
// roll a run back, is the coordinator's matter.
package spike
