// Package search finds the cheapest or fastest way to train a model on a fleet: which pools, how many chips of each, and the layout of each island. It is exact on its declared grid.
package search
