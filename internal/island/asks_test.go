package island

import (
	"testing"

	"pgregory.net/rapid"
)

// A trainer that measures where its loop looks answers all that it was told of with one loss; one
// that measures where it is told to answers each. Whoever waits has not measured the finished model.
func TestWhatALossAnswers(t *testing.T) {
	polls := asks{}
	for range 3 {
		polls.order(false)
		polls.tell()
	}
	if last, left := polls.answered(); last || left != 0 {
		t.Errorf("polled: last %v, %d left", last, left)
	}
	polls.order(false)
	polls.tell()
	if polls.waited() {
		t.Error("a wait in the middle of a run ends a question that the loop may come to yet")
	}
	polls.order(true)
	polls.tell()
	if !polls.waited() || polls.waited() {
		t.Error("nobody says, once, that the finished model is not measured")
	}

	told := asks{}
	told.order(false)
	told.order(true)
	told.tell()
	for _, want := range []bool{false, true} {
		if last, _ := told.answered(); last != want {
			t.Errorf("told: last %v, want %v", last, want)
		}
	}
	if last, left := told.answered(); last || left != 0 {
		t.Errorf("a loss that nobody asked for: last %v, %d left", last, left)
	}
}

// Whatever a trainer answers and leaves out, the question for the finished model is answered once:
// by a loss, or by the trainer's wait.
func TestTheLastQuestionIsAnsweredOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a asks
		answers := 0
		loss := func() {
			if last, _ := a.answered(); last {
				answers++
			}
		}
		for range rapid.IntRange(0, 8).Draw(t, "questions") {
			a.order(false)
			if rapid.Bool().Draw(t, "told at once") {
				a.tell()
			}
			for range rapid.IntRange(0, 2).Draw(t, "losses") {
				loss()
			}
			if rapid.Bool().Draw(t, "waits") && a.waited() {
				t.Fatal("the question for the finished model was ended before it was asked")
			}
		}
		a.order(true)
		a.tell()
		for range rapid.IntRange(0, 10).Draw(t, "last losses") {
			loss()
		}
		if a.waited() {
			answers++
		}
		if answers != 1 {
			t.Fatalf("%d answers", answers)
		}
	})
}
