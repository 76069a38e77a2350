package example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Timestamp;
import com.google.rpc.BadRequest;
import com.google.rpc.Status;
import com.positionsizing.v1.CreatePortfolioRequest;
import com.positionsizing.v1.GetServerInfoRequest;
import com.positionsizing.v1.Limits;
import com.positionsizing.v1.MarketServiceGrpc;
import com.positionsizing.v1.MarketSnapshot;
import com.positionsizing.v1.Portfolio;
import com.positionsizing.v1.PortfolioServiceGrpc;
import com.positionsizing.v1.PutMarketSnapshotRequest;
import com.positionsizing.v1.Scope;
import com.positionsizing.v1.ServerServiceGrpc;
import com.positionsizing.v1.SetLimitsRequest;
import com.positionsizing.v1.Side;
import com.positionsizing.v1.SignalBatch;
import com.positionsizing.v1.SizePositionsRequest;
import com.positionsizing.v1.SizePositionsResponse;
import com.positionsizing.v1.SizingServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Instant;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** A client in Java, from code generated out of the contract: sizes one signal, prints the lots. */
public final class SizingClient {
  private static final int DEADLINE_S = 30;

  private SizingClient() {}

  /** Sizes a signal at the service whose address is the first argument. */
  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel =
        ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    try {
      describe(channel);
      size(channel);
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  /** Says what the service is and takes, which a client can look at before it asks for more. */
  private static void describe(ManagedChannel channel) {
    var info =
        ServerServiceGrpc.newBlockingStub(channel)
            .withDeadlineAfter(DEADLINE_S, TimeUnit.SECONDS)
            .getServerInfo(GetServerInfoRequest.getDefaultInstance());
    System.out.println(
        "contract "
            + info.getContract().getPackage()
            + " lines at most "
            + info.getLimits().getLinesMax());
  }

  private static void size(ManagedChannel channel) throws InvalidProtocolBufferException {
    String portfolio = prepared(channel);
    var sizing =
        SizingServiceGrpc.newBlockingStub(channel).withDeadlineAfter(DEADLINE_S, TimeUnit.SECONDS);
    SizePositionsRequest request =
        SizePositionsRequest.newBuilder()
            .setRequestId(UUID.randomUUID().toString()) // kept for retries
            .setPortfolioId(portfolio)
            .setSignals(
                SignalBatch.newBuilder()
                    .addInstrumentIds("DUKE")
                    .addSide(Side.SIDE_LONG)
                    .addWinProbability(0.6)
                    .addPayoff(1.0))
            .build();
    SizePositionsResponse answer = sizing.sizePositions(request);
    if (!answer.equals(sizing.sizePositions(request))) {
      throw new IllegalStateException("a retry got another answer");
    }
    var sizes = answer.getDecision().getSizes();
    System.out.println("lots " + sizes.getLots(0) + " " + sizes.getBinding(0));

    SizePositionsRequest.Builder wrong =
        request.toBuilder().setRequestId(UUID.randomUUID().toString());
    wrong.getSignalsBuilder().setWinProbability(0, 1.5);
    try {
      sizing.sizePositions(wrong.build());
      throw new IllegalStateException("a wrong probability was accepted");
    } catch (StatusRuntimeException error) {
      Status status = StatusProto.fromThrowable(error);
      for (Any detail : status.getDetailsList()) {
        if (detail.is(BadRequest.class)) {
          BadRequest bad = detail.unpack(BadRequest.class);
          System.out.println("refused " + bad.getFieldViolations(0).getField());
        }
      }
    }
  }

  /** Stores a market, a portfolio and its limits; returns the portfolio's id. */
  private static String prepared(ManagedChannel channel) {
    String id = "java-" + UUID.randomUUID();
    var market =
        MarketServiceGrpc.newBlockingStub(channel).withDeadlineAfter(DEADLINE_S, TimeUnit.SECONDS);
    market.putMarketSnapshot(
        PutMarketSnapshotRequest.newBuilder()
            .setSnapshot(
                MarketSnapshot.newBuilder()
                    .setSnapshotId(id)
                    .setAsOfTime(
                        Timestamp.newBuilder().setSeconds(Instant.now().getEpochSecond()))
                    .addInstrumentIds("DUKE")
                    .addPrice(100.0))
            .build());
    var portfolios =
        PortfolioServiceGrpc.newBlockingStub(channel)
            .withDeadlineAfter(DEADLINE_S, TimeUnit.SECONDS);
    portfolios.createPortfolio(
        CreatePortfolioRequest.newBuilder()
            .setPortfolio(
                Portfolio.newBuilder().setPortfolioId(id).setBaseCurrency("USD").setCash(1e6))
            .build());
    portfolios.setLimits(
        SetLimitsRequest.newBuilder()
            .setScope(Scope.newBuilder().setPortfolioId(id))
            .setLimits(Limits.newBuilder().setWeightMax(0.05))
            .build());
    return id;
  }
}
