// Package store keeps what must outlive a process: the tape, the checkpoints and
// whatever else a run writes once and reads later.
//
// It has four layers, each on top of the one before:
//
//   - [Store] is a flat space of named objects, as an object store offers it. The
//     only conditional operation is create-if-absent. [Folder] keeps objects in a
//     local folder, [Memory] keeps them in memory.
//   - [Sequence] is a tape: numbered segments, each created once. Creating the next
//     number is how a decision is committed; whoever comes second stops.
//   - [WriteSafetensors] and [OpenSafetensors] move fp32 tensors to and from the
//     safetensors format without a second copy of them.
//   - [Writer] and [Checkpoint] make and read checkpoints: parts first, then a
//     manifest with their sizes and SHA-256 digests. What has no manifest is no
//     checkpoint.
//
// Start with [OpenFolder], then [ProveExclusive]. The formats are described in
// docs/formats/tape.md and docs/formats/checkpoint.md.
//
// The package decides nothing about training: when to save, what to save and when
// to give up belong to its callers. It starts no goroutine that outlives a call.
package store
