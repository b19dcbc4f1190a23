package wire

// Protocol is the version of the messages in mistura.proto. A peer of another
// protocol is refused by both numbers.
const Protocol = 3
