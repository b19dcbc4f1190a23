// Package plans carries an example of a fleet inside the program, so that mistura plan
// shows something without any file. It holds no code of its own.
package plans
