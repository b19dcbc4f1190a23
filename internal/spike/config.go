package spike

import (
	"fmt"
	"math"
)

// Config says which loss is a spike.
type Config struct {
	Window    int     // finite losses that a loss is compared with; none is judged before there are so many
	Factor    float64 // deviations above the median that are a spike; 0: losses are not judged, only whether they are finite
	FloorNats float64 // a loss no further above the median than this is none
}

// Default is the rule of DESIGN section 9.
func Default() Config { return Config{Window: 128, Factor: 6, FloorNats: 0.1} }

// MaxWindow bounds the window: each step inserts into a sorted copy of it.
const MaxWindow = 1 << 16

// Validate names the first field that is out of range.
func (c Config) Validate() error {
	switch {
	case c.Window < 2 || c.Window > MaxWindow:
		return fmt.Errorf("spike: a window of %d losses, it must be 2 to %d", c.Window, MaxWindow)
	case !(c.Factor >= 0) || math.IsInf(c.Factor, 0):
		return fmt.Errorf("spike: factor %v, it must be 0 or more", c.Factor)
	case !(c.FloorNats >= 0) || math.IsInf(c.FloorNats, 0):
		return fmt.Errorf("spike: a floor of %v nats, it must be 0 or more", c.FloorNats)
	}
	return nil
}
