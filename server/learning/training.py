"""Training: from a checked request to a model with its record, without I/O."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.boosting import PackageMissingError
from compute.learn.document import digest, encode
from compute.learn.rows import Rows
from compute.learn.training import TooFewRowsError, train
from server.calls.errors import invalid, precondition
from server.convert import model_records, training_request
from server.convert.training_rows import rows_of
from server.jobs.progress import Progress


def train_model(request: pb.TrainModelRequest) -> pb.Model:
    """The model that TrainModel stores. Raises `Refusal`."""
    return trained_on(request, rows_of(request.rows))


def trained_on(request: pb.TrainModelRequest, rows: Rows) -> pb.Model:
    """The same on these rows, whose features the request names. Raises `Refusal`."""
    try:
        trained = train(rows, training_request.plan_of(request), Progress().tell)
    except TooFewRowsError as error:
        raise invalid("rows", "TOO_FEW_ROWS", str(error)) from error
    except PackageMissingError as error:
        text = f"{error}: the extra 'learn' has it"
        raise precondition("PACKAGE_MISSING", text) from error
    document = encode(trained.model)
    return model_records.model_message(request, rows, trained, document, digest(document))


def work() -> tuple[Callable[[bytes], Any], Callable[[Any], Message]]:
    """How a worker reads and answers TrainModel."""
    return pb.TrainModelRequest.FromString, train_model
