// Package attachtest is a trainer for tests: ranks that speak the local protocol over
// a real socket and real shared memory, on a model whose step is a line of arithmetic.
//
// Enter at Join. It trains nothing that anybody would want.
package attachtest
