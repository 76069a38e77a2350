"""What moved the parameters of a decision, in its answer."""

from collections.abc import Iterator, Sequence

from positionsizing.v1 import sizing_pb2

from compute.adapt.adjustment import Adjustment, fraction_multiplier


def adjustments(found: Sequence[Adjustment]) -> Iterator[sizing_pb2.Adjustment]:
    """Adjustments as messages; of those on the Kelly fraction the smallest binds."""
    smallest = fraction_multiplier(found)
    for item in found:
        yield sizing_pb2.Adjustment(
            source=sizing_pb2.AdjustmentSource.ValueType(item.source),
            name=item.name,
            multiplier=item.multiplier,
            is_binding=item.is_on_edge or item.multiplier == smallest,
            explanation=item.explanation,
            line_multipliers=item.lines,
        )
