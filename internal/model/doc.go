// Package model is the arithmetic of a model: its configuration, the tensors it
// consists of, and how many parameters, FLOPs and bytes they come to. It holds
// no weights and computes nothing with them; package engine does.
//
// Enter through [Preset] or a [Config] literal, then [Config.Validate]. Every
// other method expects a valid configuration.
package model
