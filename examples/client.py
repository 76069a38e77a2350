"""Sizes one bet over gRPC; needs the server, the portfolio "demo" and the stubs (see README.md)."""

import uuid

import grpc
from positionsizing.v1 import sizing_pb2, sizing_service_pb2, sizing_service_pb2_grpc, types_pb2

signals = sizing_pb2.SignalBatch(instrument_ids=["KO"], side=[types_pb2.SIDE_LONG])
signals.win_probability[:], signals.payoff[:], signals.loss_fraction[:] = [0.56], [0.03], [0.02]
request = sizing_service_pb2.SizePositionsRequest(
    request_id=str(uuid.uuid4()), portfolio_id="demo", signals=signals
)
receive_max = 64 << 20  # gRPC's default is 4 MiB, some ten thousand lines
options = [("grpc.max_receive_message_length", receive_max)]
metadata = [("sizing-max-response-bytes", str(receive_max))]  # larger answers are refused, not lost
with grpc.insecure_channel("127.0.0.1:50051", options=options) as channel:
    stub = sizing_service_pb2_grpc.SizingServiceStub(channel)
    try:
        sizes = stub.SizePositions(request, timeout=5, metadata=metadata).decision.sizes
    except grpc.RpcError as error:
        raise SystemExit(f"refused: {error.code().name}: {error.details()}") from None
print(sizes.instrument_ids[0], sizes.lots[0], "lots,", f"{sizes.weight[0]:.2%} of equity")
