//go:build !unix

package launch

import "os/exec"

func ownGroup(*exec.Cmd) {}

func endGroup(cmd *exec.Cmd)  { killGroup(cmd) }
func killGroup(cmd *exec.Cmd) { cmd.Process.Kill() } //nolint:errcheck // it has ended already
