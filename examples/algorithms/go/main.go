// A custom sizing algorithm in Go: a fraction of Kelly, at most `most` of equity a line.
//
//	go run . unix:/tmp/capped_kelly.sock     (or 127.0.0.1:50100)
//
// `gen` is the code that protoc-gen-go and protoc-gen-go-grpc make of the folder `protos`.
package main

import (
	"context"
	"log"
	"math"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"

	v1 "positionsizing.example/gen/positionsizing/v1"
)

const version = "1.0"

type cappedKelly struct {
	v1.UnimplementedSizingAlgorithmServiceServer
}

func (cappedKelly) DescribeAlgorithm(context.Context, *v1.DescribeAlgorithmRequest) (*v1.DescribeAlgorithmResponse, error) {
	return &v1.DescribeAlgorithmResponse{Version: version, Description: "A fraction of Kelly, capped."}, nil
}

func (cappedKelly) SizeLines(_ context.Context, request *v1.SizeLinesRequest) (*v1.SizeLinesResponse, error) {
	most, ok := request.Parameters["most"]
	if !ok {
		most = 0.05
	}
	fraction := request.Parameters["kelly_fraction"]
	weight := make([]float64, len(request.InstrumentIds))
	for line, kelly := range request.Columns.Kelly {
		weight[line] = math.Max(-most, math.Min(most, fraction*kelly))
	}
	return &v1.SizeLinesResponse{Weight: weight, Version: version}, nil
}

func main() {
	network, address := "tcp", os.Args[1]
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	size := 64 << 20
	server := grpc.NewServer(grpc.MaxRecvMsgSize(size), grpc.MaxSendMsgSize(size))
	v1.RegisterSizingAlgorithmServiceServer(server, cappedKelly{})
	log.Fatal(server.Serve(listener))
}
