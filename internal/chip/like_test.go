package chip

import "testing"

// Names under which others know the chips; "" is none of them, or several.
func TestChipsByOtherNames(t *testing.T) {
	all := Builtin()
	for name, want := range map[string]string{
		"h100-80g-sxm": "h100-80g-sxm", "NVIDIA H100 80GB HBM3": "h100-80g-sxm", "H100-SXM5-80GB": "h100-80g-sxm", "h100": "h100-80g-sxm", "H100-94GB": "h100-94g", "h100-nvl-94g": "h100-94g",
		"NVIDIA A100-SXM4-40GB": "a100-40g-sxm", "A100-SXM4-80GB": "a100-80g-sxm", "A100": "a100-80g-sxm", "a800": "a800-80g-sxm", "H800": "h800-80g-sxm", "H20-96GB": "h20", "h200": "h200-141g-sxm",
		"NVIDIA GH200 480GB": "gh200-96g", "NVIDIA GB200 NVL72": "gb200", "gb300-nvl72": "gb300", "B200-SXM-180GB": "b200", "B300": "b300", "L40S": "l40s", "RTX4090": "rtx-4090", "GeForce RTX 4090": "rtx-4090",
		"AMD Instinct MI300X": "mi300x", "mi 325x": "mi325x", "MI355X": "mi355x", "MI250X-GCD": "mi250x-gcd", "MI250X": "mi250x",
		"Ascend910B3": "ascend-910b3", "Ascend 910B": "ascend-910b", "910c": "ascend-910c", "Atlas 900 A3": "ascend-910c", "Ascend-910B (Atlas 900 A2 PODc)": "ascend-910b", "Ascend 910": "ascend-910a",
		"Gaudi 2": "gaudi2", "gaudi-3": "gaudi3", "TPUv4": "tpu-v4", "TPU v5p": "tpu-v5p", "v5litepod-256": "tpu-v5e", "tpu_v6e": "tpu-v6e", "Trillium": "tpu-v6e", "trn2": "trainium2", "PPU ZW810E": "",
		"NVIDIA A100 80GB PCIe": "a100-80g-pcie", "h100-pcie": "h100-80g-pcie", "Tesla V100-SXM2-32GB": "v100-32g-sxm", "RTX 3090": "rtx-3090", "A100 + V100": "", "A100 and V100": "", "a100-40g-sxm+h100-80g-sxm": "", "h1000": "", "": "", "2025": "", "lower-spec mix (A/B/C/E)": "",
	} {
		got, ok := all.Like(name)
		if !ok {
			got = Chip{}
		}
		if got.Name != want {
			t.Errorf("%q: %q, want %q", name, got.Name, want)
		}
	}
	for _, name := range all.Names() {
		if got, ok := all.Like(name); !ok || got.Name != name {
			t.Errorf("%s is not found by its name", name)
		}
	}
}
