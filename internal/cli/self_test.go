package cli

import (
	"os/exec"
	"runtime/debug"
	"testing"

	"pgregory.net/rapid"
)

func TestGoRunIsRecognised(t *testing.T) {
	for path, want := range map[string]bool{
		"/tmp/go-build2919590973/b001/exe/mistura":                                                            true,
		"/root/.cache/go-build/7d/7d95c491a6f60c22c92db60579fc8c248de7da72342313df42801bf66bb4f3a3-d/mistura": true,
		"/tmp/cache/7d/7d95c491a6f60c22c92db60579fc8c248de7da72342313df42801bf66bb4f3a3-d/mistura":            true,
		"/usr/local/bin/mistura":                  false,
		"/home/me/go-build/mistura":               false,
		"/home/me/go-build1/b001/exe/sub/mistura": false,
	} {
		if got := goRun.MatchString(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestGoRunByVersionIsPrintedByVersion(t *testing.T) {
	for version, want := range map[string]string{
		"":        "go run github.com/mistura-project/mistura/cmd/mistura",
		"(devel)": "go run github.com/mistura-project/mistura/cmd/mistura",
		"v1.2.3":  "go run github.com/mistura-project/mistura/cmd/mistura@v1.2.3",
	} {
		if got := goRunRemote(&debug.BuildInfo{Main: debug.Module{Version: version}}); got != want {
			t.Errorf("%q: %s", version, got)
		}
	}
}

// A quoted word comes back from a shell as it went in.
func TestShellQuote(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh")
	}
	for _, word := range []string{"", "plain", "it's", "a b", "$HOME", "`x`", `\`, "语", "--x=1"} {
		out, err := exec.Command(shell, "-c", "printf %s "+shellQuote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q came back as %q, %v", word, out, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.String().Draw(t, "word")
		if q := shellQuote(word); q != word && (q[0] != '\'' || q[len(q)-1] != '\'') {
			t.Fatalf("%q is quoted as %q", word, q)
		}
	})
}
