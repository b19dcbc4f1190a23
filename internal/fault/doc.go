// Package fault holds the one error kind that a user can mend: a wrong value in
// a flag, a file or a folder. Everything that reads input returns it; the
// command line turns it into one line and exit code 2. [Closest] finds the word that
// was meant.
package fault
