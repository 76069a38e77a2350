"""A decision on the part of a market that it speaks of is the one on the whole of it."""

from dataclasses import replace

import numpy as np
import pytest

from compute.inputs import Inputs
from compute.limits.bounds import prepare
from compute.market import MissingInputError
from compute.shapes import KernelRegistry
from compute.sizing import size
from compute.waterfall.pipeline import Sizing
from tests.compute.random_books import Case, case


def _sized(item: Case, kernels: KernelRegistry) -> Sizing | str:
    try:
        limit_bounds = prepare(item.market, item.positions, item.limits)
        known = np.ones(len(item.index), dtype=bool)
        inputs = Inputs(
            item.signals,
            item.index,
            item.active,
            known,
            limit_bounds,
            item.parameters,
            item.reducing,
        )
        return size(inputs, kernels)
    except MissingInputError as error:
        return error.reason


def _part(item: Case) -> Case:
    places = np.union1d(item.positions.taken, item.index)
    return replace(
        item,
        market=item.market.part(places),
        positions=item.positions.part(places),
        index=np.searchsorted(places, item.index),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_part_gives_the_lots_of_the_whole(seed: int, kernels: KernelRegistry) -> None:
    rng = np.random.default_rng([83, seed])
    smaller = 0
    for _ in range(100):
        item = case(rng)
        part = _part(item)
        whole_size, part_size = _sized(item, kernels), _sized(part, kernels)
        smaller += len(part.market.price) < len(item.market.price)
        if isinstance(whole_size, str) or isinstance(part_size, str):
            assert whole_size == part_size
            continue
        assert whole_size.lots.tolist() == part_size.lots.tolist()
        assert whole_size.trade_lots.tolist() == part_size.trade_lots.tolist()
        np.testing.assert_allclose(part_size.stages, whole_size.stages, rtol=1e-11, atol=1e-12)
        assert whole_size.binding.kind.tolist() == part_size.binding.kind.tolist()
    assert smaller > 20


def test_the_part_of_a_market_is_kept_and_knows_its_groups() -> None:
    rng = np.random.default_rng(84)
    item = next(c for c in (case(rng) for _ in range(500)) if c.limits.groups and len(c.index) > 3)
    places = np.sort(item.index[:3])
    part = item.market.part(places)
    assert part is item.market.part(places.copy())
    assert part.index == {name: i for i, name in enumerate(part.instrument_ids)}
    whole = prepare(item.market, item.positions, item.limits)
    of_part = prepare(part, item.positions.part(places), item.limits)
    np.testing.assert_array_equal(of_part.members, whole.members[:, places])
