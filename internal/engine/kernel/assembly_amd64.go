//go:build !noasm

package kernel

import "github.com/klauspost/cpuid/v2"

//go:generate go -C gen run .

// assembly gives the sets that this CPU runs, the slowest first.
func assembly() []backend {
	if !cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3) {
		return nil
	}
	all := []backend{{name: "avx2", gemm: avx2Gemm(), vec: avx2Vector()}}
	if cpuid.CPU.Supports(cpuid.AVX512F, cpuid.BMI2) {
		all = append(all, backend{name: "avx512", gemm: avx512Gemm(), vec: avx512Vector()})
	}
	return all
}
