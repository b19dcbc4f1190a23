package attach

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ours: the process at the other end is this user's, or root's. The mode of the socket says
// the same, but not before it is set.
func ours(conn net.Conn) bool {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	if e := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return false
	}
	return peer.Uid == uint32(os.Geteuid()) || peer.Uid == 0
}
