// Package fit fits the constants of package plan to published runs, and tells how far
// they are off: on the runs they were fitted to, on runs left out, and on sources left out.
package fit
