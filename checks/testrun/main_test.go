package main

import (
	"strings"
	"testing"
)

// stream is go test -json of three packages: one passes with a skipped test, one
// fails, one panics in a test that so never ends.
const stream = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestOne"}
{"Action":"output","Package":"m/a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"pass","Package":"m/a","Test":"TestOne"}
{"Action":"output","Package":"m/a","Test":"TestTwo","Output":"=== RUN   TestTwo\n"}
{"Action":"output","Package":"m/a","Test":"TestTwo","Output":"    a_test.go:7: protoc is\n        not installed\n"}
{"Action":"output","Package":"m/a","Test":"TestTwo","Output":"--- SKIP: TestTwo (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestTwo"}
{"Action":"output","Package":"m/a","Output":"PASS\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.01s\n"}
{"Action":"pass","Package":"m/a"}
{"Action":"output","Package":"m/b","Test":"TestBad","Output":"    b_test.go:3: wrong\n"}
{"Action":"fail","Package":"m/b","Test":"TestBad"}
{"Action":"output","Package":"m/b","Output":"FAIL\tm/b\t0.01s\n"}
{"Action":"fail","Package":"m/b"}
{"Action":"output","Package":"m/c","Test":"TestEndless","Output":"panic: boom\n"}
{"Action":"output","Package":"m/c","Output":"FAIL\tm/c\t0.02s\n"}
{"Action":"fail","Package":"m/c"}
`

func TestReport(t *testing.T) {
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader("not an event\n" + stream)); err != nil {
		t.Fatal(err)
	}
	if r.close(false) {
		t.Error("the run counts as passed")
	}
	const want = `not an event
ok  	m/a	0.01s
    b_test.go:3: wrong
FAIL	m/b	0.01s
panic: boom
FAIL	m/c	0.02s
skipped: m/a TestTwo: a_test.go:7: protoc is not installed
1 passed, 2 failed, 1 skipped
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestStrictFailsOnASkip(t *testing.T) {
	first, _, _ := strings.Cut(stream, `{"Action":"output","Package":"m/b"`)
	for strict, want := range map[bool]bool{false: true, true: false} {
		r := newReport(new(strings.Builder))
		if err := r.read(strings.NewReader(first)); err != nil {
			t.Fatal(err)
		}
		if got := r.close(strict); got != want {
			t.Errorf("strict %v: passed %v", strict, got)
		}
	}
}
