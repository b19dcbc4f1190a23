// Package machine tells what this machine is: its memory and processor, and the
// memory that this process has taken. Everything it says is for announcements,
// refusals and reports; nothing that is computed may depend on it (D1, D2).
package machine
