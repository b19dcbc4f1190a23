// Package wire is what crosses between learners and syncers: the messages, the
// protocol number, and the encoding of tensors as bytes. It knows nothing of
// sockets; package transport moves the frames.
package wire

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative mistura.proto
