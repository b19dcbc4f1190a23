// Package gathered puts together what the hosts of an island have written of its state, and takes the
// digest of what a slot holds, whoever holds it (docs/formats/wire.md).
package gathered
