package sheet

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

// colour reads its own text, in place of the keys that it has too.
type colour struct {
	Name string `yaml:"name"`
	Dark bool   `yaml:"dark"`
}

func (c *colour) SetText(text string) error {
	if text == "none" {
		return errors.New("no colour")
	}
	c.Name = text
	return nil
}

func (*colour) Wanted() string { return "a colour such as red" }

type entry struct {
	Name  string  `yaml:"name"`
	Share float64 `yaml:"share"`
}

type thing struct {
	Tokens  Count    `yaml:"tokens"`
	Window  int      `yaml:"window_tokens"`
	Rate    *float64 `yaml:"rate"`
	Paint   colour   `yaml:"paint"`
	Entries []entry  `yaml:"entries"`
	Hidden  int
}

func reader() *Reader {
	return &Reader{
		File: "thing.yaml", Page: "docs/thing.md", Sample: "tokens: 4k", Holds: "thing", Keys: func() []string { return KeysOf(reflect.TypeFor[thing]()) },
		Entry: func(e any) { e.(*entry).Share = 1 },
	}
}

func read(text string) (thing, *Reader, error) {
	d, t := reader(), thing{Tokens: 7}
	root, err := d.Parse([]byte(text))
	if err == nil {
		err = d.Read(root, &t)
	}
	return t, d, err
}

func TestReadLaysTheFileOverTheValue(t *testing.T) {
	got, d, err := read("window_tokens: 2k\nrate: 0.5\npaint: red\nentries:\n  - name: a\n  - {name: b, share: 0.25}\n")
	if err != nil {
		t.Fatal(err)
	}
	half := 0.5
	if want := (thing{Tokens: 7, Window: 2000, Rate: &half, Paint: colour{Name: "red"}, Entries: []entry{{"a", 1}, {"b", 0.25}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if d.Lines["entries.1.share"] != 6 || d.Lines["rate"] != 2 || d.Lines["tokens"] != 0 {
		t.Errorf("%v", d.Lines)
	}
	if got, _, err := read("paint: {name: blue, dark: true}\n"); err != nil || got.Paint != (colour{"blue", true}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, _, err := read("rate: auto\n"); err != nil || got.Rate != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"tokenz: 1":             `thing.yaml:1: unknown key "tokenz"; did you mean "tokens"?`,
		"share: 1":              `thing.yaml:1: unknown key "share"; did you mean "entries[].share"?`,
		"hidden: 1":             `thing.yaml:1: unknown key "hidden"; the keys are entries, paint, rate, tokens, window_tokens`,
		"tokens: many":          `thing.yaml:1: tokens "many": is not a number of tokens such as 400k, 2M or 1B; see docs/thing.md`,
		"tokens: [1]":           `thing.yaml:1: tokens: needs a single value; write a number of tokens such as 400k, 2M or 1B`,
		"window_tokens: x":      `thing.yaml:1: window_tokens "x": is not a number of tokens such as 400k, 2M or 1B; see docs/thing.md`,
		"paint: none":           `thing.yaml:1: paint "none": is not a colour such as red; see docs/thing.md`,
		"paint:\n  dark: 3":     `thing.yaml:2: paint.dark "3": is not true or false; see docs/thing.md`,
		"entries: a":            `thing.yaml:1: entries "a": needs a list; write one entry a line, each after "- "`,
		"rate: .nan":            `thing.yaml:1: rate ".nan": is not a number; see docs/thing.md`,
		"word":                  `thing.yaml:1 "word": is not a list of keys; write keys such as "tokens: 4k"`,
		"tokens: 1\ntokens: 2":  `thing.yaml:2: the same key twice: `,
		"rate: 1\n---\nrate: 2": `thing.yaml:3: a second document; keep one thing in a file`,
	} {
		_, _, err := read(text)
		if in := (*fault.Input)(nil); !errors.As(err, &in) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// An empty file, and keys without a value, leave everything as it was.
func TestReadOfNothing(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "null\n"} {
		if got, d, err := read(text); err != nil || !reflect.DeepEqual(got, thing{Tokens: 7}) || len(d.Lines) > 0 {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestSections(t *testing.T) {
	root, err := reader().Parse([]byte("paint: {name: red}\nentries: []\nrate:\n"))
	if err != nil {
		t.Fatal(err)
	}
	paint, ok := root.Child("paint").Section()
	name, single := paint.Child("name").Text()
	if !ok || !single || name != "red" || !reflect.DeepEqual(root.Keys(), []string{"paint", "entries", "rate"}) {
		t.Errorf("%v %q, %v", ok, name, root.Keys())
	}
	if root.Child("paint").Empty() || !root.Child("entries").Empty() || !root.Child("rate").Empty() || !root.Child("none").Empty() || root.Child("none").There() || !root.Child("rate").There() {
		t.Error("what is empty or not there")
	}
	if _, ok := root.Child("entries").Section(); ok {
		t.Error("a list is a section")
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{"tokens: 4k\n", "paint: {dark: true}\n", "entries:\n  - name: a\n", "a: &x [*x]\n", "? a\n: b\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, err := read(string(data))
		if in := (*fault.Input)(nil); err != nil && (!errors.As(err, &in) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("not one line of bad input: %q", err)
		}
	})
}
