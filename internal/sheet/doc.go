// Package sheet reads the YAML that users write, strictly, into structs.
//
// A [Reader] lays a file over a value: what the file does not say stays as it was. An
// unknown key, a key given twice or a value of the wrong kind is a *fault.Input with
// file, line, key and next step on one line. Keys are the yaml tags of the struct's
// fields; a type that reads its own text is a [Texter].
//
// The package knows no key of any file and checks no range.
package sheet
