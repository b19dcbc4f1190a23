// Package corpus turns text into token files and gives windows of them to learners.
//
// Build reads text (files, folders, JSON Lines, or the source tree of the installed
// Go toolchain), holds documents back for validation, and writes a folder of token
// files with an index; Open opens such a folder, from as many processes as like to;
// Tokens.Sample gives the n-th training sample of a run in an Order. Check tells
// within a second whether Build would refuse its input.
//
// The tokenizer is bytes: a token is a byte of UTF-8, and 0xFF, which UTF-8 never
// contains, ends each document. So no text can forge the end of a document.
//
// The content of a folder depends on the text only, not on time, machine or number
// of workers. The page of the format is docs/formats/tokens.md.
package corpus
