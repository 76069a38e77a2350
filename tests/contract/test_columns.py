"""Columns written in one parse are the bits that appending would write, and read back the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from positionsizing.v1 import sizing_pb2

from server.convert.columns import (
    floats,
    integers,
    optional_floats,
    set_floats,
    symmetric,
    upper_triangle,
)


def written_both_ways(values: np.ndarray) -> tuple[bytes, bytes]:
    fast, plain = sizing_pb2.PositionSizes(), sizing_pb2.PositionSizes()
    set_floats(fast, "weight", values)
    plain.weight.extend(values.tolist())
    return fast.SerializeToString(), plain.SerializeToString()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=300))
def test_one_parse_is_many_appends(values: list[float]) -> None:
    fast, plain = written_both_ways(np.array(values))
    assert fast == plain
    message = sizing_pb2.PositionSizes.FromString(fast)
    assert floats(message.weight).tobytes() == np.array(values, dtype=np.float64).tobytes()


@pytest.mark.parametrize("size", [0, 1, 15, 16, 127, 128, 2047, 2048, 50_000])
def test_lengths_around_every_varint(size: int) -> None:
    fast, plain = written_both_ways(np.random.default_rng(size).normal(size=size))
    assert fast == plain


def test_strided_and_other_types_are_converted() -> None:
    values = np.arange(20.0)[::3]
    fast, plain = written_both_ways(values)
    assert fast == plain
    fast, plain = written_both_ways(values.astype(np.float32))
    assert fast == plain


def test_every_field_number_gets_its_tag() -> None:
    """Numbers above 15 take two bytes of tag."""
    for field in sizing_pb2.PositionSizes.DESCRIPTOR.fields:
        if field.cpp_type != field.CPPTYPE_DOUBLE:
            continue
        message = sizing_pb2.PositionSizes()
        set_floats(message, field.name, np.array([1.5, -2.5]))
        assert list(getattr(message, field.name)) == [1.5, -2.5]


def test_reading_copies() -> None:
    message = sizing_pb2.PositionSizes(weight=[1.0, 2.0], lots=[3, -4])
    column = floats(message.weight)
    column[0] = 9.0
    assert message.weight[0] == 1.0
    assert integers(message.lots).tolist() == [3, -4]
    assert optional_floats(message.notional) is None


@pytest.mark.parametrize("n", [1, 2, 7])
def test_upper_triangles_row_by_row_make_the_symmetric_matrix_again(n: int) -> None:
    whole = np.random.default_rng(n).standard_normal((n, n))
    whole = whole + whole.T
    triangle = upper_triangle(whole)
    np.testing.assert_array_equal(triangle, whole[np.triu_indices(n)])
    np.testing.assert_array_equal(symmetric(triangle, n), whole)
