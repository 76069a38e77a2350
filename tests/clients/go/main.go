// A client in Go, from code generated out of the contract: sizes one signal and prints the lots.
//
//	go run . ADDRESS service_config.json
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // asks each server whether it serves
	"google.golang.org/grpc/status"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "positionsizing.example/gen/positionsizing/v1"
)

func newID() string {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		log.Fatal(err)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	// How calls are spread and repeated: service_config.json of the contract.
	config, err := os.ReadFile(os.Args[2])
	check(err)
	connection, err := grpc.NewClient(
		os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(config)),
	)
	check(err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	info, err := v1.NewServerServiceClient(connection).GetServerInfo(ctx, &v1.GetServerInfoRequest{})
	check(err)
	fmt.Println("contract", info.Contract.Package, "lines at most", info.Limits.LinesMax)

	_, err = v1.NewMarketServiceClient(connection).PutMarketSnapshot(ctx, &v1.PutMarketSnapshotRequest{
		Snapshot: &v1.MarketSnapshot{
			SnapshotId:    "go-" + newID(),
			AsOfTime:      timestamppb.Now(),
			InstrumentIds: []string{"GOPHER"},
			Price:         []float64{100},
		},
	})
	check(err)
	portfolios := v1.NewPortfolioServiceClient(connection)
	portfolio := "go-" + newID()
	_, err = portfolios.CreatePortfolio(ctx, &v1.CreatePortfolioRequest{
		Portfolio: &v1.Portfolio{PortfolioId: portfolio, BaseCurrency: "USD", Cash: 1e6},
	})
	check(err)
	_, err = portfolios.SetLimits(ctx, &v1.SetLimitsRequest{
		Scope:  &v1.Scope{Scope: &v1.Scope_PortfolioId{PortfolioId: portfolio}},
		Limits: &v1.Limits{WeightMax: proto.Float64(0.05)},
	})
	check(err)

	sizing := v1.NewSizingServiceClient(connection)
	request := &v1.SizePositionsRequest{
		RequestId:   newID(),
		PortfolioId: portfolio,
		Signals: &v1.SignalBatch{
			InstrumentIds:  []string{"GOPHER"},
			Side:           []v1.Side{v1.Side_SIDE_LONG},
			WinProbability: []float64{0.6},
			Payoff:         []float64{1},
		},
	}
	answer, err := sizing.SizePositions(ctx, request)
	check(err)
	again, err := sizing.SizePositions(ctx, request)
	check(err)
	if !proto.Equal(answer, again) {
		log.Fatal("a retry got another answer")
	}
	fmt.Println("lots", answer.Decision.Sizes.Lots[0], answer.Decision.Sizes.Binding[0])

	request.RequestId, request.Signals.WinProbability[0] = newID(), 1.5
	_, err = sizing.SizePositions(ctx, request)
	refused := status.Convert(err)
	if refused.Code() != codes.InvalidArgument {
		log.Fatalf("expected INVALID_ARGUMENT, not %v", err)
	}
	for _, detail := range refused.Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			fmt.Println("refused", bad.FieldViolations[0].Field)
		}
	}
}
