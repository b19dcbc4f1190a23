package wire

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fault"
)

func TestJoinString(t *testing.T) {
	j := Join{Address: "10.0.0.7:4100", RunID: "r7f3", Era: 1, Island: "fast", Incarnation: 3, Secret: "a b&c"}
	const want = "mistura://10.0.0.7:4100/r7f3?era=1&island=fast&incarnation=3&secret=a+b%26c"
	if got := j.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := j.Redacted(); strings.Contains(got, "a+b") || !strings.Contains(got, "secret=") {
		t.Errorf("redacted: %s", got)
	}
	pasted := Join{Address: "10.0.0.7:4100", RunID: "r7f3", Island: "rack2", Authority: strings.Repeat("0a", 32), Token: "1~aa~0"}
	if got, want := pasted.String(), "mistura://10.0.0.7:4100/r7f3?island=rack2&authority="+strings.Repeat("0a", 32)+"&token=1~aa~0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := pasted.Redacted(); strings.Contains(got, "aa~0") {
		t.Errorf("redacted: %s", got)
	}
	short := Join{Address: "[::1]:4100", RunID: "r", Era: 2}
	if got, want := short.String(), "mistura://[::1]:4100/r?era=2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestJoinParsesBackToItself(t *testing.T) {
	text := rapid.StringOfN(rapid.Rune(), 0, 12, -1)
	word := text.Filter(printable)
	name := word.Filter(func(s string) bool { return s != "" && !strings.Contains(s, "/") })
	address := rapid.SampledFrom([]string{"127.0.0.1:1", "[::1]:65535", "head-0.mistura.svc:4100"})
	rapid.Check(t, func(t *rapid.T) {
		want := Join{
			Address: address.Draw(t, "address"), RunID: name.Draw(t, "run"), Era: rapid.Uint32Min(1).Draw(t, "era"),
			Island: word.Draw(t, "island"), Incarnation: rapid.Uint64().Draw(t, "incarnation"), Secret: text.Draw(t, "secret"),
		}
		if want.Incarnation == 0 && rapid.Bool().Draw(t, "to paste") {
			want.Era, want.Token, want.Authority = 0, word.Draw(t, "token"), strings.Repeat("0f", 32)
		}
		got, err := ParseJoin(want.String())
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

func TestParseJoinRefuses(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"empty", "", "does not begin with mistura://"},
		{"control character", "mistura://h:1/r\x00?era=1", "is not a URL"},
		{"other scheme", "http://h:1/r?era=1", `"http": does not begin with mistura://`},
		{"no slashes", "mistura:h:1/r", "has a part that a join string has not"},
		{"user", "mistura://u@h:1/r?era=1", "has a part that a join string has not"},
		{"fragment", "mistura://h:1/r?era=1#x", "has a part that a join string has not"},
		{"no host", "mistura://:1/r?era=1", "must be host:port"},
		{"no port", "mistura://h/r?era=1", `address "h": must end in a port`},
		{"port 0", "mistura://h:0/r?era=1", "must end in a port"},
		{"port too high", "mistura://h:65536/r?era=1", "must end in a port"},
		{"no run", "mistura://h:1?era=1", "run id: must be one name"},
		{"two names", "mistura://h:1/r/s?era=1", `run id "r/s": must be one name`},
		{"incarnation without era", "mistura://h:1/r?incarnation=2", "era: must go with incarnation"},
		{"authority", "mistura://h:1/r?authority=0a", `authority "0a": must be 64 lower-case hex digits`},
		{"token", "mistura://h:1/r?token=%00", "token: must be printable text"},
		{"era 0", "mistura://h:1/r?era=0", `era "0": must be a number from 1`},
		{"era too high", "mistura://h:1/r?era=4294967296", "must be a number from 1"},
		{"era twice", "mistura://h:1/r?era=1&era=1", "era: must stand there once"},
		{"incarnation", "mistura://h:1/r?era=1&incarnation=x", `incarnation "x": must be a number from 1`},
		{"empty value", "mistura://h:1/r?era=1&island=", "island: must stand there once, with a value"},
		{"island with a control character", "mistura://h:1/r?era=1&island=%1b%5b2J", "must be printable text"},
		{"run id not UTF-8", "mistura://h:1/r%ff?era=1", "run id"},
		{"secret not UTF-8", "mistura://h:1/r?era=1&secret=%ff", "secret: must be UTF-8"},
		{"unknown key", "mistura://h:1/r?era=1&rank=2", `"rank": is not a known key`},
		{"cut escape", "mistura://h:1/r?era=1&island=%4", "malformed part after the question mark"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseJoin(c.in)
			var input *fault.Input
			if !errors.As(err, &input) {
				t.Fatalf("got %v, want *fault.Input", err)
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "; copy it whole") {
				t.Errorf("got %q, want it to hold %q and the next step", err, c.want)
			}
		})
	}
}

func TestParseJoinNeverQuotesTheSecret(t *testing.T) {
	for _, s := range []string{
		"mistura://h:1/r?era=0&secret=hunter2", "mistura://h:1/r?era=1&secret=hunter2&secret=hunter2",
		"mistura://h:1/r?era=1&secret=hunter2%4", "mistura://h:1/r\x01?secret=hunter2", "mistura://h/r?secret=hunter2",
		"mistura://h:1/r?era=0&token=hunter2", "mistura://h:1/r?token=hunter2&token=hunter2", "mistura://h:1/r?token=hunter2%00",
	} {
		if _, err := ParseJoin(s); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParseJoin(f *testing.F) {
	for _, s := range []string{
		"mistura://127.0.0.1:4100/r7f3?era=1&island=fast&incarnation=3&secret=x", "mistura://[::1]:1/a%2Fb?era=2",
		"mistura://h:1/r?era=1&island=%FF", "mistura:", "mistura://%41:1/r?era=1", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		j, err := ParseJoin(s)
		if err != nil {
			return
		}
		back, err := ParseJoin(j.String())
		if err != nil || back != j {
			t.Fatalf("%q gives %+v, which reads back as %+v, %v", s, j, back, err)
		}
	})
}
