//go:build !linux

package attach

import "net"

// ours: the mode of the socket says who may open it.
func ours(net.Conn) bool { return true }
