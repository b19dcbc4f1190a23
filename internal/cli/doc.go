// Package cli is the command line: one file for each verb, each with newX, which
// declares flags and help, and runX, which acts. It reads flags, files and the few
// environment variables that docs/cli.md lists, hands plain values on, and shows
// what comes back. It computes nothing.
//
// Enter with [Main]. Every error ends there, as one line on stderr and one of the
// exit codes in exit.go.
package cli
