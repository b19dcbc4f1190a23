package plans

import _ "embed" // the file

// RentName is where the fleet file stands.
const RentName = "examples/plans/rent/fleet.yaml"

//go:embed rent/fleet.yaml
var rent []byte

// Rent is the fleet file that mistura plan uses when it is given none.
func Rent() []byte { return rent }
