package attach

import (
	"net"
	"testing"
)

func TestPeerIsOurs(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if ours(a) {
		t.Error("a connection without a user is taken for ours")
	}
}
