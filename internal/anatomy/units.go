package anatomy

import (
	"fmt"
	"math"
	"strconv"
)

// Number writes a number that is not rounded where it need not be.
func Number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// Scaled writes a number with four digits and a decimal unit: 46.70 B.
func Scaled(v float64, units ...string) string {
	for i, unit := range units {
		size := math.Pow(1000, float64(i))
		if math.Abs(v) < 999.95*size || i == len(units)-1 {
			return fmt.Sprintf("%s %s", digits(v/size, i == 0), unit)
		}
	}
	return Number(v)
}

// digits are four of them, none behind the point of a whole number.
func digits(v float64, whole bool) string {
	switch a := math.Abs(v); {
	case whole && v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 99.995:
		return fmt.Sprintf("%.1f", v)
	case a >= 9.9995:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// Count writes a number of parameters in thousands, millions, billions.
func Count(n int64) string { return Scaled(float64(n), "", "k", "M", "B", "T") }

// Operations writes floating-point operations.
func Operations(n float64) string {
	return Scaled(n, "FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP")
}

// Rate writes operations in a time as a speed.
func Rate(operations, seconds float64) string {
	return Scaled(operations/seconds, "FLOP/s", "kFLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s", "EFLOP/s")
}
