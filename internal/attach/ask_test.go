package attach_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
)

// describing is a crew that knows its run, or why it does not; it gives the socket.
func describing(t *testing.T, describe func() (*attach.Run, error)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := attach.Listen(attach.Options{
		Path: filepath.Join(dir, "s"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Lost: func(error) {}, Describe: describe,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.Path()
}

// ask says the lines, and gives the answer to the first.
func ask(t *testing.T, path string, lines ...any) any {
	t.Helper()
	conn, err := attachtest.Open(path, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, m := range lines {
		line, err := attach.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	m, err := attach.Decode(line)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDescribe(t *testing.T) {
	path := describing(t, func() (*attach.Run, error) { return &attach.Run{Run: attach.Document(`{"seed":7}`), Island: "a"}, nil })
	got, ok := ask(t, path, &attach.Describe{}).(*attach.Run)
	if !ok || string(got.Run) != `{"seed":7}` || got.Island != "a" {
		t.Errorf("got %+v", got)
	}
}

// Who cannot be told is refused in words, before the hello too.
func TestDescribeWithoutAnAnswer(t *testing.T) {
	for want, describe := range map[string]func() (*attach.Run, error){
		"does not know the run": nil,
		"no such file":          func() (*attach.Run, error) { return nil, errors.New("no such file") },
	} {
		got, ok := ask(t, describing(t, describe), &attach.Describe{}).(*attach.Refused)
		if !ok || !strings.Contains(got.Problem, want) {
			t.Errorf("got %+v, want %s", got, want)
		}
	}
}

func TestRowsFit(t *testing.T) {
	if err := attach.FitsRows(64, 4097); err != nil {
		t.Error(err)
	}
	if err := attach.FitsRows(5000, 4097); err == nil || !strings.Contains(err.Error(), "5000 rows of 4097 tokens") {
		t.Errorf("%v", err)
	}
	most := 3071
	if err := attach.FitsRows(most, 4097); err != nil {
		t.Fatal(err)
	}
	if _, err := attach.Encode(attach.TokensOf(make([]int32, most*4097), 4097, nil)); err != nil {
		t.Errorf("rows that fit are not written: %v", err)
	}
}
