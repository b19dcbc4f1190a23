package fault

import "testing"

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"tokens", "tokens", 0}, {"tokenz", "tokens", 1},
		{"toknes", "tokens", 1}, {"token", "tokens", 1}, {"seed", "tokens", 5}, {"kitten", "sitting", 3},
	} {
		if got := edits(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d edits, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestClosestIsNotFarFetched(t *testing.T) {
	known := []string{"tokens", "seed", "warmup_tokens"}
	for key, want := range map[string]string{"tokenz": "tokens", "sed": "seed", "warmup_token": "warmup_tokens", "x": "", "frobnicate": ""} {
		if got := Closest(key, known); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}
