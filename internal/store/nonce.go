package store

import (
	"crypto/rand"
	"encoding/hex"
)

// newNonce names one attempt and no other. It has no part in any result of
// training, so it does not come from the run's seed.
func newNonce() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// isNonce reports whether newNonce may have made a name.
func isNonce(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 8
}
