package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// build says which program this is. Empty text is unknown.
type build struct {
	Version          string `json:"version"`
	Revision         string `json:"revision"`
	Modified         bool   `json:"modified"` // built from a changed checkout
	Time             string `json:"time"`     // of the revision
	Go               string `json:"go"`
	Platform         string `json:"platform"`
	Protocol         int    `json:"protocol"`
	LocalProtocol    int    `json:"local_protocol"` // with trainers on the same host
	RunFormat        int    `json:"run_format"`
	CheckpointFormat int    `json:"checkpoint_format"`
	TapeFormat       int    `json:"tape_format"`
}

func newVersion(env *Env) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Say which version this is",
		Long:    "Say which version this is: of the program, the protocol and the formats it reads.",
		Example: "  mistura version\n  mistura version --json",
		Args:    noArgs,
		RunE:    func(*cobra.Command, []string) error { return runVersion(env, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object on one line")
	return cmd
}

func runVersion(env *Env, asJSON bool) error {
	b := buildOf()
	if asJSON {
		return printJSON(env.Stdout, b)
	}
	_, err := fmt.Fprint(env.Stdout, b)
	return err
}

// buildOf reads what the Go toolchain left in the program.
func buildOf() build {
	b := build{
		Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Protocol: wire.Protocol, LocalProtocol: attach.Protocol, RunFormat: runfile.Format, CheckpointFormat: store.CheckpointFormat, TapeFormat: store.TapeFormat,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "vcs.time":
			b.Time = s.Value
		}
	}
	return b
}

func (b build) String() string {
	text := "mistura " + b.Version + "\n"
	if b.Revision != "" {
		changed := ""
		if b.Modified {
			changed = ", changed"
		}
		text += fmt.Sprintf("revision %s of %s%s\n", b.Revision, b.Time, changed)
	}
	return text + fmt.Sprintf("%s, %s\nprotocol %d, local protocol %d, formats: run %d, checkpoint %d, tape %d\n",
		b.Go, b.Platform, b.Protocol, b.LocalProtocol, b.RunFormat, b.CheckpointFormat, b.TapeFormat)
}
