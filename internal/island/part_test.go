package island

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// A further host that has not got its part of the state ends: the others have theirs.
func TestFollowerThatIsNotRestored(t *testing.T) {
	life, fail := context.WithCancelCause(t.Context())
	f := &follower{fail: fail}
	f.restored(&wire.IslandState{Object: "checkpoints/3/islands/a.safetensors"}, nil, errors.New("moment1 cannot be read"))
	if why := context.Cause(life); why == nil || !strings.Contains(why.Error(), "a.safetensors: moment1 cannot be read") {
		t.Errorf("it goes on, with %v", why)
	}
}

// A host of many compares what ranks of its numbers had saved; one that is alone compares all.
func TestFilesWithin(t *testing.T) {
	rank := func(number, parts int) *attach.Rank {
		return &attach.Rank{Hello: &attach.Hello{Rank: number, Parts: parts}}
	}
	files := []*wire.StateFile{{Rank: 0}, {Rank: 1}, {Rank: 2}}
	if got := (&holding{ranks: []*attach.Rank{rank(2, 2), rank(3, 2)}}).within(files); len(got) != 1 || got[0].Rank != 2 {
		t.Errorf("of two hosts one compares %v", got)
	}
	if got := (&holding{ranks: []*attach.Rank{rank(0, 1)}}).within(files); len(got) != 3 {
		t.Errorf("of one host, which compares all, %v", got)
	}
}

// Danger: the ranks of a further host end for good while those of the first join again.
func TestFollowerHearsThatItMayComeAgain(t *testing.T) {
	said := func(retry bool) error {
		body := &wire.ToLearner_Rejected{Rejected: &wire.Rejected{Reason: "no sign of life", Retry: retry}}
		return (&link{}).turnedAway(transport.Down{ToLearner: &wire.ToLearner{Body: body}})
	}
	if again := said(true); !errors.Is(again, attach.ErrAgain) || errors.Is(again, ErrExpelled) {
		t.Errorf("called back: %v", again)
	}
	if gone := said(false); !errors.Is(gone, ErrExpelled) || errors.Is(gone, attach.ErrAgain) {
		t.Errorf("expelled: %v", gone)
	}
	if err := (&link{}).turnedAway(transport.Down{ToLearner: &wire.ToLearner{}}); err != nil {
		t.Error(err)
	}
}
