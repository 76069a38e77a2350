"""Training: from a checked request to a model with its record, without I/O."""

from positionsizing.v1 import learning_service_pb2 as pb

from compute.learn.document import digest, encode
from compute.learn.training import TooFewRowsError, train
from server.convert import learning as convert
from server.errors import invalid


def train_model(request: pb.TrainModelRequest) -> pb.Model:
    """The model that TrainModel stores. Raises `Refusal`."""
    rows = convert.rows_of(request.rows)
    try:
        trained = train(rows, convert.plan_of(request))
    except TooFewRowsError as error:
        raise invalid("rows", "TOO_FEW_ROWS", str(error)) from error
    document = encode(trained.model)
    return convert.model_message(request, rows, trained, document, digest(document))
