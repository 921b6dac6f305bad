package main

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

// The grpc in Debian 12, 1.33, marshals messages with an older API than the one that the generated code implements. This
// codec replaces grpc's own; newer versions of grpc do not need it.
type codec struct{}

func init() { encoding.RegisterCodec(codec{}) }

func (codec) Marshal(message any) ([]byte, error) { return proto.Marshal(message.(proto.Message)) }

func (codec) Unmarshal(data []byte, message any) error {
	return proto.Unmarshal(data, message.(proto.Message))
}

func (codec) Name() string { return "proto" }
