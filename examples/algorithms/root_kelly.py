"""A custom sizing algorithm as a program of its own: needs the stubs and `grpcio`.

    python root_kelly.py unix:/tmp/root_kelly.sock

The stake grows with the root of Kelly, so that large edges are trusted less than small ones:

    weight = side scale sqrt(|kelly|), at most `most`
"""

import hashlib
import math
import sys
from concurrent import futures
from pathlib import Path

import grpc
from positionsizing.v1 import sizing_algorithm_pb2 as pb
from positionsizing.v1 import sizing_algorithm_pb2_grpc as stubs

VERSION = "1.0"
SHA256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


class RootKelly(stubs.SizingAlgorithmServiceServicer):
    """Answers each question by itself and keeps nothing."""

    def DescribeAlgorithm(self, request, context):  # noqa: D102
        return pb.DescribeAlgorithmResponse(
            version=VERSION, sha256=SHA256, description="The root of Kelly, scaled and capped."
        )

    def SizeLines(self, request, context):  # noqa: D102
        scale = request.parameters.get("scale", 0.1)
        most = request.parameters.get("most", 0.2)
        columns = request.columns
        weights = [
            math.copysign(min(scale * math.sqrt(abs(kelly)), most), side) if kelly else 0.0
            for kelly, side in zip(columns.kelly, columns.side, strict=True)
        ]
        return pb.SizeLinesResponse(weight=weights, version=VERSION, sha256=SHA256)


def main():
    """Serves until it is ended."""
    size_max = 64 << 20
    options = [
        ("grpc.max_receive_message_length", size_max),
        ("grpc.max_send_message_length", size_max),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=options)
    stubs.add_SizingAlgorithmServiceServicer_to_server(RootKelly(), server)
    server.add_insecure_port(sys.argv[1])
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
