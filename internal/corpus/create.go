package corpus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Create writes a folder of tokens that exist already, such as the output of another
// tokenizer or what a test needs, and opens it. source tells people where they are
// from. vocab is the number of tokens there are; one outside it is refused. dir must
// hold no whole set.
func Create(ctx context.Context, dir, source string, vocab int, train, valid []int32) (*Set, error) {
	if _, err := os.Stat(filepath.Join(dir, indexName)); err == nil {
		return nil, fmt.Errorf("create tokens: %s holds a set already", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create tokens: %w", err)
	}
	if err := createSet(ctx, dir, source, vocab, train, valid); err != nil {
		return nil, errors.Join(fmt.Errorf("create tokens of %s: %w", source, err), discard(dir))
	}
	return Open(dir)
}

func createSet(ctx context.Context, dir, source string, vocab int, train, valid []int32) error {
	for _, o := range []struct {
		name   string
		tokens []int32
	}{{trainName, train}, {validName, valid}} {
		if len(o.tokens) == 0 {
			return fmt.Errorf("%s has no tokens", o.name)
		}
		raw, err := encode(nil, o.tokens, vocab)
		if err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, o.name), raw, 0o644); err != nil {
			return err
		}
	}
	x, err := describeTokens(ctx, dir, vocab)
	if err != nil {
		return err
	}
	x.Tokenizer = givenTokens
	x.Input = input{Source: source, Paths: []string{}, HeldOut: asGiven}
	return seal(dir, x)
}
