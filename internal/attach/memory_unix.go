//go:build unix

package attach

import (
	"os"

	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, n int64) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func unmap(b []byte) { unix.Munmap(b) } //nolint:errcheck // it was mapped
