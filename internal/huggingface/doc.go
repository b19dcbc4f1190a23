// Package huggingface reads and writes models as the Hugging Face library keeps
// them: a folder with config.json and weights in safetensors files.
//
// A family is one architecture of that world ("bailing_moe", "bailing_moe_v2",
// "qwen3_moe"): which fields of config.json stand for which of [model.Config], what
// the tensors are called and how they lie. [ReadConfig] takes a configuration
// alone, [Open] a whole folder, [Export] writes one. docs/formats/huggingface.md
// describes the fields, names and layouts.
//
// Nothing is guessed and nothing is passed over: a field that the engine does not
// compute as the family's code does is refused by its name, and so is one that is
// not known; every tensor of the model and of the files is accounted for.
//
// The package knows nothing of runs, and holds no more than a piece of one tensor
// in memory.
package huggingface
