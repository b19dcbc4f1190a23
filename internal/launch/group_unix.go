//go:build unix

package launch

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a Ctrl-C on the terminal from reaching the island: the parent
// decides how it ends.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// endGroup asks all processes of the command's group to end; killGroup ends them. Neither
// does harm when they have ended already.
func endGroup(cmd *exec.Cmd)  { syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) } //nolint:errcheck // they are gone
func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } //nolint:errcheck // they are gone
