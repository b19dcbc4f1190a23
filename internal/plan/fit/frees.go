package fit

// Frees are the constants that are fitted, with the values that they are held to.
// Shares of the peak may not pass what the best shape of a product reaches where that
// was measured (the table of efficiency).
func Frees() []Free {
	return []Free{
		// shares of the peak that products reach, by format and family of chips
		{"product.bf16.sm_80", 0.8, 0.3, 0.3, 0.87},
		{"product.bf16.sm_90", 0.75, 0.3, 0.3, 0.82},
		{"product.fp8.sm_90", 0.65, 0.3, 0.2, 0.75},
		{"product.bf16.sm_100", 0.68, 0.1, 0.3, 0.7},
		{"product.bf16.sm_103", 0.68, 0.1, 0.3, 0.75},
		{"product.fp8.sm_100", 0.65, 0.3, 0.2, 0.74},
		{"product.fp8.sm_103", 0.65, 0.3, 0.2, 0.75},
		{"product.fp4", 0.5, 0.3, 0.1, 1},
		{"product.bf16.ascend", 0.7, 0.3, 0.2, 0.85},
		{"product.bf16.gfx", 0.6, 0.3, 0.2, 0.95},
		{"product.tf32.sm_90", 0.7, 0.3, 0.2, 0.9},
		{"product.fp16.sm_80", 0.7, 0.1, 0.2, 0.87},
		// of that, products of experts
		{"expert", 0.75, 0.2, 0.1, 1},
		{"expert.sm_90", 0.75, 0.2, 0.1, 1},
		{"expert.sm_100.bf16", 0.75, 0.2, 0.1, 1},
		{"expert.sm_103.bf16", 0.75, 0.2, 0.1, 1},
		{"expert.sm_100.fp8", 0.75, 0.2, 0.1, 1},
		{"expert.sm_103.fp8", 0.75, 0.2, 0.1, 1},
		// attention, ways to experts, experts with biases, calls of an expert, age of software
		{"keys", 300, 0.7, 1, 4000},
		{"routing", 4, 0.7, 0.1, 40},
		{"fused.fsdp", 0.5, 0.3, 0.1, 1.5},
		{"fused.titan", 0.7, 0.3, 0.1, 1.5},
		{"biased", 1.3, 0.3, 0.5, 4},
		{"grouped.fp8", 2e-5, 1, 1e-7, 1e-3},
		{"grouped.bf16", 5e-6, 1, 1e-7, 1e-3},
		{"drift.experts", 0.03, 0.7, 1e-4, 0.2},
		{"drift.dense", 0.01, 0.7, 1e-4, 0.1},
		// shares of the peak that attention reaches
		{"score.sm_80", 0.5, 0.3, 0.1, 1},
		{"score.sm_90", 0.5, 0.3, 0.1, 1},
		{"score.sm_100", 0.5, 0.3, 0.1, 1},
		{"score.sm_103", 0.5, 0.3, 0.1, 1},
		{"score.ascend", 0.5, 0.3, 0.1, 1},
		{"score.gfx", 0.5, 0.3, 0.1, 1},
		// memory, sizes at which products are at half of their rate, bytes moved beside products
		{"bandwidth", 0.8, 0.1, 0.3, 1},
		{"tokens", 200, 0.7, 1, 3000},
		{"width", 200, 0.7, 1, 3000},
		{"elementwise", 1.5, 0.5, 0.1, 10},
		{"elementwise.fsdp", 2, 0.5, 0.1, 10},
		{"elementwise.titan", 2, 0.5, 0.1, 10},
		{"elementwise.sailor", 2, 0.3, 0.1, 20},
		{"cast.fp8", 1.5, 0.5, 0.1, 10},
		// seconds of a layer beside its work; traffic that work does not hide, by software
		{"launch.megatron", 5e-5, 1, 1e-6, 2e-3},
		{"launch.sailor", 1e-4, 1, 1e-6, 5e-2},
		{"tp.megatron", 0.6, 0.5, 0.05, 2},
		{"tp.classic", 1, 0.5, 0.05, 2},
		{"tp.titan", 1, 0.5, 0.05, 3},
		{"tp.sailor", 1, 0.5, 0.05, 15},
		{"ep", 0.8, 0.5, 0.05, 3},
		{"overlap.megatron", 2, 0.5, 1.01, 10},
		{"overlap.fsdp", 2, 0.5, 1.01, 10},
		{"overlap.titan", 2, 0.5, 1.01, 10},
		{"scale", 0.005, 1, 1e-4, 0.1},
		{"send", 0.5, 0.5, 0.05, 5},
		{"send.classic", 0.8, 0.5, 0.05, 5},
		{"send.sailor", 1, 1, 0.05, 50},
		{"tp.mindspeed", 0.8, 0.5, 0.05, 3},
	}
}
