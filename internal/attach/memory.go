package attach

import (
	"errors"
	"os"
	"unsafe"

	"github.com/mistura-project/mistura/internal/fault"
)

// memory is a file that two processes have mapped.
type memory struct {
	path  string
	bytes []byte
	spilt error // why it is not in memory but on a disk; nil: it is
}

// shmFolder holds files in memory, where the system has it.
const shmFolder = "/dev/shm"

// share makes a file of n bytes, all of them really there, in memory or else in the
// folder for temporary files.
func share(n int64) (memory, error) {
	if big() {
		return memory{}, &fault.Input{Where: "this machine", Problem: "is big-endian; tensors are shared in little-endian order", Next: "use a native island here"}
	}
	return shareInOneOf(shmFolder, os.TempDir(), n)
}

func shareInOneOf(shm, disk string, n int64) (memory, error) {
	m, err := shareIn(shm, n)
	if err == nil {
		return m, nil
	}
	m, err2 := shareIn(disk, n)
	if err2 != nil {
		return memory{}, &fault.Input{
			Where: "shared memory", Value: sizeText(n), Problem: "there is no room for it in " + shm + " nor in " + disk,
			Next: "make room, or set TMPDIR to a folder that has it (containers: --shm-size)", Err: errors.Join(err, err2),
		}
	}
	if _, missing := os.Stat(shm); missing == nil {
		m.spilt = err
	}
	return m, nil
}

func shareIn(dir string, n int64) (m memory, err error) {
	f, err := os.CreateTemp(dir, "mistura-*.shm") // mode 0600
	if err != nil {
		return m, err
	}
	defer f.Close()
	m.path = f.Name()
	if err = reserve(f, n); err == nil {
		m.bytes, err = mapFile(f, n)
	}
	if err != nil {
		os.Remove(m.path)
	}
	return m, err
}

// floats views n elements from a byte offset on.
func (m memory) floats(at int64, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(&m.bytes[at])), n)
}

// unlink takes the file's name away; who has mapped it keeps it.
func (m *memory) unlink() error {
	if m.path == "" {
		return nil
	}
	path := m.path
	m.path = ""
	return os.Remove(path)
}

// close ends the use of the memory.
func (m *memory) close() {
	m.unlink() //nolint:errcheck // the rank never mapped it
	if m.bytes != nil {
		unmap(m.bytes)
		m.bytes = nil
	}
}

// big: the machine stores the highest byte of a number first.
func big() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 0
}

// fill gives a file its size in zeros that are really there.
func fill(f *os.File, n int64) error {
	block := make([]byte, 1<<20)
	for at := int64(0); at < n; at += int64(len(block)) {
		if _, err := f.WriteAt(block[:min(int64(len(block)), n-at)], at); err != nil {
			return err
		}
	}
	return nil
}
