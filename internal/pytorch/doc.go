// Package pytorch runs the reference learner, which is a Python program: it finds a
// Python, unpacks the package mistura that the program carries, asks PyTorch whether the
// device and the format are there, and gives the command that starts the learner's ranks.
//
// Enter at Probe, before a run begins, and at Command. The package starts no learner
// itself and knows nothing of sockets or runs: that is for package island and its callers.
package pytorch
