//go:build !noasm

package kernel

import "github.com/klauspost/cpuid/v2"

//go:generate go -C gen run .

// assembly gives the sets that this CPU runs, the slowest first.
func assembly() []backend {
	var all []backend
	if cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3) {
		all = append(all, backend{name: "avx2", gemm: avx2Gemm(), vec: portableVector()})
	}
	if cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.AVX512F) {
		all = append(all, backend{name: "avx512", gemm: avx512Gemm(), vec: portableVector()})
	}
	return all
}
