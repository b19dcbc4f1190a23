// Package launch starts island processes and tells when they end. So far there
// is one launcher, for processes on this machine; cluster launchers come beside it.
package launch
