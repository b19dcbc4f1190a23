// Package scripttest runs the event scripts that test pure machines. It is for
// tests only.
//
// A script is a text file. It opens with a comment that names the danger it guards.
// A line is an input: when, what, and its fields as key=value; "inc" is short for
// incarnation. "1s..9s/1s" stands for every second from 1 to 9. What the machine
// does stands below, indented: its reason behind a colon, then its effects in
// order. With -rewrite a test replaces what stands there by what came out; read the
// difference before you commit it.
//
//	# Danger: …
//	config islands=a,b
//	0s start
//		: the run begins
//		launch incarnation=1 island=a
package scripttest
