//go:build unix

package launch

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a Ctrl-C on the terminal from reaching the island: the parent
// decides how it ends.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
