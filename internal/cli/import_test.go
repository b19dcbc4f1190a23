package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/huggingface"
)

// An error names a readable number of tensors; where there are more, all of them are
// listed before it.
func TestEveryTensorWithoutCounterpartIsListed(t *testing.T) {
	var out bytes.Buffer
	env := &Env{Stderr: &out}
	mismatch := &huggingface.Mismatch{Unused: []string{"left"}}
	err := error(&fault.Input{Where: "model", Err: mismatch})
	env.listMismatch(err)
	if out.Len() > 0 || !strings.Contains(err.Error(), "unused: left") {
		t.Errorf("%v; listed %q", err, &out)
	}
	for i := range 100 {
		mismatch.Missing = append(mismatch.Missing, fmt.Sprintf("tensor-%d", i))
	}
	env.listMismatch(err)
	if n := strings.Count(out.String(), "\n"); n != 101 || !strings.Contains(out.String(), "mistura: without data: tensor-99\n") || !strings.Contains(err.Error(), "and 36 more") {
		t.Errorf("%d lines; %v", n, err)
	}
}
