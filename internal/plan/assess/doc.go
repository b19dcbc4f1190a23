// Package assess judges whether one chip can stand in for another: performance, scale and ecosystem, each with its evidence.
package assess
