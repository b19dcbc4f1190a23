package corpus

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// listGo lists the source of the installed Go toolchain: *.go below src, tests
// included, without vendored copies. Generated files are left out when read.
func listGo(ctx context.Context) ([]file, string, error) {
	root := goRoot(ctx)
	if root == "" {
		return nil, "", &fault.Input{Where: "--data", Problem: "no text was given, and there is no Go toolchain whose source could serve",
			Next: "give text files, folders or JSON Lines with --data, or put go on the path"}
	}
	src := filepath.Join(root, "src")
	if stat, err := os.Stat(src); err != nil || !stat.IsDir() {
		return nil, "", &fault.Input{Where: src, Problem: "the Go toolchain was installed without its source",
			Next: "give text files, folders or JSON Lines with --data"}
	}
	files, err := walk(ctx, src, func(name string) bool {
		return name != "vendor/" && (strings.HasSuffix(name, "/") || strings.HasSuffix(name, ".go"))
	})
	if err != nil {
		return nil, "", err
	}
	for i := range files {
		files[i].kind = goSource
	}
	return files, "source of " + goVersion(root) + " in " + src, nil
}

// goRoot asks the go command on the path, then the environment.
func goRoot(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "env", "GOROOT")
	command.Dir = os.TempDir() // a go.mod here could ask for another toolchain, even fetch it
	if out, err := command.Output(); err == nil {
		if root := strings.TrimSpace(string(out)); root != "" {
			return root
		}
	}
	return os.Getenv("GOROOT")
}

// goVersion reads the version that a toolchain states of itself.
func goVersion(root string) string {
	data, err := os.ReadFile(filepath.Join(root, "VERSION"))
	first, _, _ := strings.Cut(string(data), "\n")
	if err != nil || strings.TrimSpace(first) == "" {
		return "Go"
	}
	return strings.TrimSpace(first)
}

// isGenerated tells whether Go source carries the line that marks generated files
// (go.dev/s/generatedcode) above its package clause.
func isGenerated(text []byte) bool {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if bytes.HasPrefix(line, []byte("package ")) {
			return false
		}
		if bytes.HasPrefix(line, []byte("// Code generated ")) && bytes.HasSuffix(line, []byte(" DO NOT EDIT.")) {
			return true
		}
	}
	return false
}
