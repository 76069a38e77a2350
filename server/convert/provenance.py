"""Matrices made semidefinite, and matrices made by the service, as messages."""

from positionsizing.v1 import market_service_pb2 as pb

from compute.correlation.factors import FactorForm
from compute.correlation.nearest import repaired
from server.convert.columns import Floats, set_floats, upper_triangle
from server.convert.matrix import matrix


def with_covariance(message: pb.Matrix, values: Floats) -> None:
    """Puts a symmetric matrix into a message, as its upper triangle."""
    message.upper_triangle.Clear()
    set_floats(message.upper_triangle, "values", upper_triangle(values))


def with_factors(message: pb.Matrix, form: FactorForm) -> None:
    """Puts a matrix in factor form into a message."""
    message.factor.Clear()
    set_floats(message.factor, "loadings", form.loadings.ravel())
    set_floats(message.factor, "factor_covariance", form.factor_covariance.ravel())
    set_floats(message.factor, "specific_variance", form.specific_variance)


def semidefinite(message: pb.Matrix) -> pb.Matrix:
    """The matrix itself if it is positive semidefinite, else the nearest one that is.

    The message has been checked in all else. What was repaired says so in its provenance.
    """
    if message.kind == pb.MATRIX_KIND_SCENARIOS or message.WhichOneof("form") == "factor":
        return message
    values = matrix(message).values
    fixed = repaired(0.5 * (values + values.T))
    if fixed.distance == 0.0:
        return message
    out = pb.Matrix()
    out.CopyFrom(message)
    with_covariance(out, fixed.matrix)
    out.provenance.smallest_eigenvalue = fixed.smallest_eigenvalue
    out.provenance.repair_distance = fixed.distance
    return out
