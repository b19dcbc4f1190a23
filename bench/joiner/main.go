// Command joiner measures what a learner that joins in mid-run should start its
// optimizer with: native islands train together, and in the middle one more joins,
// with the fleet's weights and one of several moments. Until it joins all arms of a
// seed are one and the same run, and every arm trains the same samples in the same
// order; nothing depends on time, so that other work on the machine changes no bit.
//
//	go run ./bench/joiner -seeds 1,2,3,4 -rows rows.jsonl
//
// A row is one arm of one seed. Rows that the file holds already are not computed
// again. At the end the table of all rows is printed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/bench/rows"
	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/runfile"
)

// setting is what all arms have in common.
type setting struct {
	islands   int   // before the joiner
	tokens    int64 // of the whole run
	joinAt    int64 // tokens after which the joiner joins
	threads   int
	checkFrom int // steps of an island between the checkpoint whose moments a joiner may take and the joining
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "joiner:", err)
		os.Exit(1)
	}
}

func run() error {
	seeds := flag.String("seeds", "1,2,3,4", "run seeds")
	file := flag.String("rows", "", "file of finished rows, one JSON object a line; empty: nothing is kept")
	s := setting{}
	flag.IntVar(&s.islands, "islands", 2, "islands before the joiner")
	flag.Int64Var(&s.tokens, "tokens", 600_000, "tokens of a run")
	flag.Int64Var(&s.joinAt, "join-at", 300_000, "tokens after which the joiner joins")
	flag.IntVar(&s.threads, "threads", 1, "threads; the bits are the same")
	flag.IntVar(&s.checkFrom, "checkpoint-age", 73, "steps of an island from the last checkpoint to the joining")
	flag.Parse()
	done, err := rows.Read[row](*file)
	if err != nil {
		return err
	}
	text, remove, err := openText()
	if err != nil {
		return err
	}
	defer remove()
	defer text.Close()
	for _, field := range strings.Split(*seeds, ",") {
		seed, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return fmt.Errorf("seed %q: %w", field, err)
		}
		keep := func(r row) error {
			done = append(done, r)
			return rows.Append(*file, r)
		}
		if err := s.seed(seed, text, done, keep); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
	}
	fmt.Print(table(done))
	return nil
}

// openText tokenizes the built-in text in a folder of its own.
func openText() (*corpus.Set, func(), error) {
	dir, err := os.MkdirTemp("", "mistura-joiner-*")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { os.RemoveAll(dir) }
	r := runfile.Default()
	spec := corpus.Spec{ValidShare: r.Data.ValidShare, Seq: r.Train.SequenceTokens}
	set, err := corpus.Build(context.Background(), spec, filepath.Join(dir, "data"), func(done, total int64) {})
	if err != nil {
		remove()
		return nil, nil, err
	}
	return set, remove, nil
}
