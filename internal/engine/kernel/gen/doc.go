// Command gen writes the assembly of package kernel with avo. It is a module of its
// own, so that the main module does not depend on avo. Run it in this folder after a change:
//
//	go run .
//
// Every file is generated from a width: the same code gives AVX2 (256 bits, 16
// registers) and AVX-512 (512 bits, 32 registers). Both take the same steps per element
// and the same lanes per reduction, so that the two sets agree to the bit.
package main
