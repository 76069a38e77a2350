"""Choices among trials, and tests of the best, against other programs and known answers."""

import numpy as np
import pytest
from arch.bootstrap import SPA

from compute.simulate.superiority import superiority
from compute.simulate.tuning import choose, neighbours, points


@pytest.mark.parametrize("edge", [0.0, 0.006])
def test_superior_ability_agrees_with_arch(edge: float) -> None:
    """arch studentises nothing, so it is given the differences over their deviations."""
    noise = np.random.default_rng(0).standard_normal((160, 10)) * 0.01
    noise[:, 3] += edge
    variances = SPA(np.zeros(160), -noise, block_size=5, reps=2, seed=1)
    variances.compute()
    scaled = noise / np.sqrt(variances._loss_diff_var)
    oracle = SPA(np.zeros(160), -scaled, block_size=5, reps=2000, seed=1)
    oracle.compute()
    found = superiority(noise, block=5.0, seed=1)
    assert found is not None
    assert found[0] == pytest.approx(oracle.pvalues["consistent"], abs=0.04)
    assert found[1] == pytest.approx(oracle.pvalues["upper"], abs=0.04)


def test_ten_strategies_of_noise_and_one_of_them_with_an_edge() -> None:
    """arch says 0.3445 of differences as they are; over their deviations, as here, 0.143."""
    noise = np.random.default_rng(0).standard_normal((160, 10))
    plain = SPA(np.zeros(160), -noise, block_size=5, reps=2000, seed=1)
    plain.compute()
    assert plain.pvalues["consistent"] == pytest.approx(0.3445, abs=1e-12)
    found = superiority(noise, block=5.0, seed=1)
    assert found is not None
    assert found[0] == pytest.approx(0.143, abs=0.025)
    noise[:, 3] += 0.6
    found = superiority(noise, block=5.0, seed=1)
    assert found is not None
    assert found[0] == 0.0


def test_nothing_to_test_is_none() -> None:
    assert superiority(np.zeros((50, 3))) is None
    assert superiority(np.zeros((3, 2))) is None


def test_a_plateau_is_chosen_rather_than_a_spike() -> None:
    cube = points(1, 63, seed=1)
    growth = np.zeros((120, 63)) + 1e-4
    near = np.abs(cube[:, 0] - 0.3) < 0.1
    growth[:, near] = 5e-4
    spike = int(np.argmin(np.abs(cube[:, 0] - 0.8)))
    growth[:, spike] = 1e-3
    choice = choose(cube, growth, 6, 0.25)
    assert int(choice.objective.argmax()) == spike
    assert near[choice.chosen]
    assert choice.plateau[choice.chosen] == pytest.approx(5e-4)
    assert choice.walk_forward == pytest.approx([5e-4] * 5)


def test_walk_forward_knows_nothing_of_the_segment_it_is_judged_in() -> None:
    rng = np.random.default_rng(3)
    cube, growth = points(2, 31, seed=0), rng.standard_normal((90, 31)) * 0.01
    changed = growth.copy()
    changed[75:] = rng.standard_normal((15, 31))
    before, after = (choose(cube, one, 6, 0.25).walk_forward for one in (growth, changed))
    assert list(before[:-1]) == list(after[:-1])


def test_a_ruined_trial_is_never_chosen() -> None:
    cube, growth = points(1, 16, seed=0), np.full((60, 16), 1e-4)
    growth[50:, 7] = -np.inf
    choice = choose(cube, growth, 4, 0.0)
    assert choice.objective[7] == -np.inf
    assert choice.chosen != 7


def test_neighbours_are_the_nearest() -> None:
    cube = np.array([[0.0], [0.1], [0.5], [0.9]])
    assert [sorted(row) for row in neighbours(cube).tolist()] == [
        [0, 1, 2], [0, 1, 2], [1, 2, 3], [1, 2, 3],
    ]  # fmt: skip
