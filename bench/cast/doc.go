// Package cast plays a run as a user would: a coordinator and the islands that join it, each a
// process of the mistura binary.
//
// Enter with [Serve]. It knows nothing of what is measured.
package cast
