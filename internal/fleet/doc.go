// Package fleet is the file that names what chips there are to plan with: pools, prices,
// links, and what the run may use of them.
//
// Enter with [Parse], which reads a file strictly: an unknown key, a value that does not
// fit, a chip that the catalogue lacks are a *fault.Input with file and line. What the file
// does not say is not known and stays so (rule S6): [Pool.Price] and [Fleet.Link] say
// whether there is one, [Fleet.Convert] refuses currencies without a dated rate.
//
// docs/formats/fleet.md describes the file.
package fleet
