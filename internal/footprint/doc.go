// Package footprint counts the memory that the processes of a run take at most, before
// the run begins, so that it can be announced, and refused where it does not fit.
//
// Enter at Of. Each term stands for memory that another package allocates; the names
// are in the comments. What is counted is what is there at the worst moment: a captured
// state is being written while every fragment has a contribution under way. The figures
// in docs/performance.md say how near measured peaks come.
//
// The package must not allocate what it counts.
package footprint
