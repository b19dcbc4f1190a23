package corpus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// readText writes content as a file and reads the documents out of it.
func readText(t testing.TB, name, content string, strict bool) ([]string, Tally, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	f := file{path: path, kind: kindOf(path), size: int64(len(content))}
	var texts []string
	var tally Tally
	err := readAll(t.Context(), []file{f}, strict, func(r reading) error {
		for _, d := range r.documents {
			texts = append(texts, string(d.text))
		}
		tally.add(r.tally)
		return nil
	})
	return texts, tally, err
}

// E2: two JSON lines whose strings hold U+2028, U+2029 and U+0085, with CRLF line
// ends. Elsewhere lines were cut inside the strings. Here: two documents, their text
// unchanged, the carriage return not part of it.
func TestOnlyNewlinesEndLines(t *testing.T) {
	const first, second = "a\u2028b\u2029c\u0085d", "e\u0085"
	content := `{"text":"` + first + `"}` + "\r\n" + `{"text":"` + second + `"}` + "\r\n"
	texts, tally, err := readText(t, "x.jsonl", content, true)
	if err != nil || !slices.Equal(texts, []string{first, second}) {
		t.Errorf("documents %q, %v", texts, err)
	}
	if tally.Bytes != int64(len(content)) || tally.Documents != 2 {
		t.Errorf("tally %+v", tally)
	}
}

// E3: six lines: good, blank, empty text, null text, other key, good. Two documents,
// and one each of the others counted; strict mode stops with the line number.
func TestLinesWithoutTextAreCounted(t *testing.T) {
	lines := []string{`{"text":"good"}`, ` `, `{"text":""}`, `{"text":null}`, `{"Text":"other key"}`, `{"text":"good too"}`}
	texts, tally, err := readText(t, "x.jsonl", strings.Join(lines, "\n"), false)
	if err != nil || !slices.Equal(texts, []string{"good", "good too"}) {
		t.Errorf("documents %q, %v", texts, err)
	}
	want := Tally{Files: 1, Documents: 2, Blank: 1, Empty: 1, Null: 1, Missing: 1, Bytes: tally.Bytes}
	if tally != want {
		t.Errorf("tally %+v, want %+v", tally, want)
	}
	for i, problem := range []string{1: "is blank", 2: "has an empty text", 3: "has null for its text", 4: `has no key "text"`} {
		if problem == "" {
			continue
		}
		_, _, err := readText(t, "x.jsonl", lines[0]+"\n"+lines[i]+"\n", true)
		if err == nil || !strings.Contains(err.Error(), "x.jsonl:2: "+problem) {
			t.Errorf("line %q in strict mode: %v", lines[i], err)
		}
	}
}

func TestLinesThatAreNoJSONAreRefusedWithTheirNumber(t *testing.T) {
	for _, tt := range []struct{ line, problem string }{
		{`{"text":"cut`, "is not a JSON object"},
		{`["text"]`, "is not a JSON object"},
		{`{"text":"a"} {"text":"b"}`, "is not a JSON object"},
		{`{"text":5}`, "has a text that is not a string"},
	} {
		_, _, err := readText(t, "x.jsonl", "{\"text\":\"good\"}\n\n"+tt.line+"\n", false)
		if err == nil || !strings.Contains(err.Error(), "x.jsonl:3: "+tt.problem) {
			t.Errorf("line %s: %v", tt.line, err)
		}
	}
}

// E4: one line of 15 MB among short ones. Go's line scanner gives up at 64 KiB, at
// times as a quiet end of file. Here the document is read whole and there are as many
// documents as lines; a line above the limit is an error with its number.
func TestLongLinesAreReadWhole(t *testing.T) {
	long := strings.Repeat("0123456789abcde", 1_000_000)
	content := "{\"text\":\"first\"}\n{\"text\":\"" + long + "\"}\n{\"text\":\"last\"}\n"
	texts, _, err := readText(t, "x.jsonl", content, true)
	if err != nil || !slices.Equal(texts, []string{"first", long, "last"}) {
		t.Errorf("%d documents, %v", len(texts), err)
	}
	f := file{path: "x.jsonl"}
	_, err = f.nextLines(&lineReader{r: bufio.NewReader(strings.NewReader(content)), limit: 1 << 20}, false)
	if err == nil || !strings.Contains(err.Error(), "x.jsonl:2: the line is longer than 1048576 bytes") {
		t.Errorf("with a limit of 1 MiB: %v", err)
	}
}

func TestLineEndsDoNotCountAgainstTheLimit(t *testing.T) {
	l := &lineReader{r: bufio.NewReader(strings.NewReader("abc\r\nabcd\n")), limit: 3}
	if line, err := l.next(); err != nil || string(line) != "abc" {
		t.Errorf("first line %q, %v", line, err)
	}
	if line, err := l.next(); err != errLineTooLong || l.line != 2 {
		t.Errorf("line %d %q, %v", l.line, line, err)
	}
}

// The slow twin splits the whole text at once.
func TestLineReaderAgreesWithSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching("[a\r\n]{0,60}").Draw(t, "text")
		if got, want := allLines(t, text), splitLines(text); !slices.Equal(got, want) {
			t.Fatalf("%q: lines %q, want %q", text, got, want)
		}
	})
}

func allLines(t interface{ Fatal(...any) }, text string) []string {
	// The smallest buffer makes most lines come in several chunks.
	l := &lineReader{r: bufio.NewReaderSize(strings.NewReader(text), 16), limit: 1 << 20}
	var got []string
	for {
		line, err := l.next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(line))
		if l.line != int64(len(got)) {
			t.Fatal("line number", l.line, "for line", len(got))
		}
	}
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	return lines
}

func TestTextSurvivesTheWayThroughJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		line, err := json.Marshal(map[string]any{"id": 7, "text": text, "TEXT": "another key"})
		if err != nil {
			t.Fatal(err)
		}
		var r reading
		if err := r.keepLine(line, false); err != nil {
			t.Fatal(err)
		}
		switch {
		case text == "" && r.tally.Empty == 1 && len(r.documents) == 0:
		case len(r.documents) == 1 && string(r.documents[0].text) == text:
		default:
			t.Fatalf("text %q became %+v", text, r)
		}
	})
}

// Whatever the bytes, reading JSON Lines ends, keeps only UTF-8, and accounts for
// every line.
func FuzzJSONLines(f *testing.F) {
	f.Add([]byte("{\"text\":\"good\"}\r\n\n{\"text\":\"\"}\n{\"text\":null}\n{\"other\":1}\n{\"text\":\"\xff\"}"))
	f.Add([]byte(`{"text":"` + "\u2028" + `","text":"twice"}`))
	f.Add([]byte("[1]\n{}"))
	f.Add([]byte(byteOrderMark + "\n\n\r\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		source := file{path: "fuzz.jsonl"}
		reader := &lineReader{r: bufio.NewReaderSize(bytes.NewReader(data), 16), limit: 1 << 16}
		for {
			piece, err := source.nextLines(reader, false)
			if err != nil && err != io.EOF {
				return
			}
			r, bad := piece.read()
			if bad != nil {
				return
			}
			for _, d := range r.documents {
				if !utf8.Valid(d.text) || len(d.text) == 0 || bytes.IndexByte(d.text, EndOfDocument) >= 0 {
					t.Fatalf("document %q", d.text)
				}
			}
			n := r.tally
			if kept := n.Documents + n.Blank + n.Empty + n.Null + n.Missing; kept != int64(len(piece.lines)) {
				t.Fatalf("%d lines, tally %+v", len(piece.lines), n)
			}
			if err == io.EOF {
				return
			}
		}
	})
}

func BenchmarkJSONLine(b *testing.B) {
	line, err := json.Marshal(map[string]any{"id": 7, "text": strings.Repeat("some words of text\n", 100)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		var r reading
		if err := r.keepLine(line, false); err != nil {
			b.Fatal(err)
		}
	}
}
