// Package validate holds predictions against published runs, row by row, and sums the errors up.
package validate
