//go:build !(linux || darwin || freebsd)

package store

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// abandonedAfter stands in for a lock: a temporary file that nobody has written to
// for so long has no writer any more.
const abandonedAfter = 24 * time.Hour

func lockFile(*os.File) error { return nil }

func tryLockFile(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && time.Since(info.ModTime()) > abandonedAfter
}

// claimFile: there are no locks here.
func claimFile(*os.File) bool { return true }

// syncDir does nothing: these systems cannot bring a folder to disk, or do it by
// themselves.
func syncDir(string) error { return nil }

func freeBytes(string) (int64, bool, error) { return 0, false, nil }

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }

func noLinks(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

func notFolder(err error) bool { return errors.Is(err, syscall.ENOTDIR) }
