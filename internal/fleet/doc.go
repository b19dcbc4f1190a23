// Package fleet is the file that names what chips there are to plan with: pools, prices,
// links, and what the run may use of them.
package fleet
