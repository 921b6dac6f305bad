package main

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

// The grpc that Debian 12 packages, 1.33, marshals with an older API than the generated code is for. This codec takes
// its place; a newer grpc does not need it.
type codec struct{}

func init() { encoding.RegisterCodec(codec{}) }

func (codec) Marshal(message any) ([]byte, error) { return proto.Marshal(message.(proto.Message)) }

func (codec) Unmarshal(data []byte, message any) error {
	return proto.Unmarshal(data, message.(proto.Message))
}

func (codec) Name() string { return "proto" }
