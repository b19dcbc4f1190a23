package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ClaimName is the file whose lock says that a process writes to the folder as its only one.
const ClaimName = "coordinator.lock"

// Claim makes this process the only one that has the folder, until release or its own end,
// however that comes. When another one has it for longer than patience, holder is what that said of
// itself and release is nil: one that was killed may take a moment to end, and so may a lock that a
// process has let go while a child of it was being started. Where the file system has no locks everybody gets
// it. The file stays: one that is removed could be locked by two, each by a name that the other has replaced.
func (d *Folder) Claim(ctx context.Context, who string, patience time.Duration) (release func(), holder string, err error) {
	for limit := time.Now().Add(patience); ; {
		release, holder, err = d.tryClaim(who)
		if err != nil || release != nil || holder == who || !time.Now().Before(limit) {
			return release, holder, err
		}
		select {
		case <-ctx.Done():
			return nil, "", context.Cause(ctx)
		case <-time.After(claimEvery):
		}
	}
}

// claimEvery is how often a folder that another process has is tried.
const claimEvery = 50 * time.Millisecond

func (d *Folder) tryClaim(who string) (release func(), holder string, err error) {
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
	return func() {
		f.Truncate(0) //nolint:errcheck // it says whose it was for a while then
		f.Close()
	}, "", nil
}
