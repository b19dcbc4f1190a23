// Package runfile is the run file: everything that decides what a run computes,
// as one value.
//
// [Default] is the run that needs no file. [Parse] reads a file over it, strictly:
// an unknown key, a key given twice or a value of the wrong type is a *fault.Input
// that names file and line. [Run.Resolve] fills what depends on other values (they
// read "auto" until then) and checks everything; a resolved run parses back to
// itself from [Run.Marshal]. docs/formats/run.md describes each field; a test
// keeps that page, the defaults and the structs together.
//
// The package touches no files and reads no clock or environment.
package runfile
