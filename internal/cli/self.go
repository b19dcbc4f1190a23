package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
)

// packagePath is what "go run" is given outside a checkout.
const packagePath = "github.com/mistura-project/mistura/cmd/mistura"

// packageDir is the same within a checkout.
const packageDir = "./cmd/mistura"

// goRun matches executables that "go run" made: in its temporary folder, and from
// the second run on (since Go 1.24) in the build cache.
var goRun = regexp.MustCompile(`/go-build\d+/b\d+/exe/[^/]+$|/[0-9a-f]{64}-d/[^/]+$`)

// self is a command line that starts this program again the way it was started, so
// that commands shown to the user work as they are printed.
func (env *Env) self() string {
	exe, err := os.Executable()
	if err != nil || !goRun.MatchString(filepath.ToSlash(exe)) {
		return shellQuote(env.Args[0])
	}
	if _, err := os.Stat(filepath.Join(packageDir, "main.go")); err == nil {
		return "go run " + packageDir
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "go run " + packagePath
	}
	return goRunRemote(info)
}

// goRunRemote names the package where there is no checkout at hand: by version, if
// it was run by version.
func goRunRemote(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return "go run " + packagePath + "@" + v
	}
	return "go run " + packagePath
}

var shellSafe = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// shellQuote writes a word so that a POSIX shell reads it back.
func shellQuote(s string) string {
	if shellSafe.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
