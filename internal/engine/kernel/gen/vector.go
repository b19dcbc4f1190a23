package main

import "github.com/mmcloughlin/avo/build"

func vectors(c *build.Context, w width) {}
