// Package python carries the files of the Python package mistura inside the program, so
// that a torch island works with the binary alone. It holds no code of its own: read
// mistura/__init__.py for the Python package, and package pytorch for what is done with it.
package python

import (
	"embed"
	"io/fs"
)

//go:embed mistura/*.py mistura/*/*.py mistura/py.typed
var files embed.FS

// Files is the folder that holds mistura.
func Files() fs.FS { return files }
