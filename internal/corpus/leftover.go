package corpus

import (
	"io/fs"
	"os"
	"slices"
)

// Leftover reports whether dir is a folder that holds nothing but what Build writes,
// whole or, when its process was killed, in part. Build uses that again or writes it
// anew, and nobody's files are mixed with its own.
func Leftover(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	own := []string{trainName, validName, indexName, indexName + ".tmp"}
	return !slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return !e.Type().IsRegular() || !slices.Contains(own, e.Name())
	}), nil
}
