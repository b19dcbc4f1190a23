// Package storetest holds what tests of stores, and of what uses them, need: the
// suite that every driver passes, and a store that fails on schedule.
//
// A new driver is tested by one call of [Suite]. Code on top of a store is tested
// by wrapping [store.Memory] with [Wrap].
package storetest
