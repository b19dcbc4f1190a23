// Package authority is what the members of one run trust, and nobody else: a
// certificate authority of the run's own, made once and kept in the run folder, by
// which every other host knows the coordinator, and a key by which the coordinator
// knows the join strings that it gave out.
//
// Enter at Open (the coordinator's side) and Client (a joiner's side, which has the
// fingerprint from its join string). token.go is about join strings that are limited.
// No root of the operating system is asked: a certificate of a public authority for
// the same address counts for nothing here.
//
// The package must not open connections, nor decide how often a token was used.
package authority
