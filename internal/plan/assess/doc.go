// Package assess judges whether one chip can stand in for another: performance,
// scale and ecosystem, each with its evidence, and what is not known.
//
// Enter with [Question.Answer]. Speeds are predicted by package plan with the best
// layout of a small grid at each number of chips; what a prediction needs and nobody
// knows is taken from the range that like chips of the catalogue have, said so, and
// makes the range of the answer wider. The verdict follows from the numbers by [Rule].
//
// It knows no run and no fleet: what a whole run costs is package search's.
package assess
