package store

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ClaimName is the file whose lock says that a process writes to the folder as its only one.
const ClaimName = "coordinator.lock"

// Claim makes this process the only one that has the folder, until release or its own end,
// however that comes. When another one has it, holder is what that said of itself and release is
// nil. Where the file system has no locks everybody gets it. The file stays: one that is
// removed could be locked by two, each by a name that the other has replaced.
func (d *Folder) Claim(who string) (release func(), holder string, err error) {
	if err := os.MkdirAll(d.root, 0o755); err != nil {
		return nil, "", fmt.Errorf("claim %s: %w", d.root, err)
	}
	f, err := os.OpenFile(filepath.Join(d.root, ClaimName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, "", fmt.Errorf("claim %s: %w", d.root, err)
	}
	if !claimFile(f) {
		said, _ := io.ReadAll(io.LimitReader(f, 1024)) //nolint:errcheck // unknown then
		f.Close()
		return nil, strings.ToValidUTF8(strings.TrimSpace(string(said)), "?"), nil
	}
	// It is the lock that counts: on a full disk there are no words, and the run says what is wrong.
	if f.Truncate(0) == nil {
		f.WriteString(who + "\n") //nolint:errcheck // see above
	}
	return func() { f.Close() }, "", nil
}
