package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

func main() {
	folder := ".."
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	if err := generate(folder); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generate writes an assembly file and its Go declarations for each unit.
func generate(folder string) error {
	units := []struct {
		name  string
		write func(*build.Context)
	}{
		{"product_avx2", func(c *build.Context) { product(c, avx2) }},
		{"product_avx512", func(c *build.Context) { product(c, avx512) }},
		{"vector_avx2", func(c *build.Context) { vectors(c, avx2) }},
		{"vector_avx512", func(c *build.Context) { vectors(c, avx512) }},
		{"round_avx2", rounds},
	}
	for _, u := range units {
		c := build.NewContext()
		c.ConstraintExpr("!noasm")
		u.write(c)
		file, err := c.Result()
		if err != nil {
			return fmt.Errorf("%s: %w", u.name, err)
		}
		if err := pass.Compile.Execute(file); err != nil {
			return fmt.Errorf("%s: %w", u.name, err)
		}
		base := filepath.Join(folder, u.name+"_amd64")
		if err := write(base+".s", printer.NewGoAsm, file); err != nil {
			return err
		}
		if err := write(base+".go", printer.NewStubs, file); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, builder printer.Builder, file *ir.File) error {
	text, err := builder(printer.Config{Name: "gen", Argv: []string{"gen"}, Pkg: "kernel"}).Print(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
