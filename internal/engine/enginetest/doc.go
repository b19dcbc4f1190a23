// Package enginetest holds the configurations that the engine, its scalar twin
// and whatever else computes the same model are tested on. It is for tests only.
package enginetest
