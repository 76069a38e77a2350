"""The root finder and the safe logarithm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compute.edge.numeric import decreasing_root, floats, gauss_legendre, weighted_log1p


def test_root_of_a_batch_of_cubics_is_exact():
    targets = jnp.array([1e-12, 0.1, 1.0, 7.0])
    roots = decreasing_root(lambda x: targets - x**3, jnp.zeros(4), jnp.full(4, 2.0))
    np.testing.assert_allclose(roots, np.cbrt(targets), rtol=1e-14)


def test_root_next_to_a_pole_is_found():
    # 1 = d / (1 - x): the root is d away from the pole at 1.
    distance = jnp.array([1e-3, 1e-9])
    roots = decreasing_root(lambda x: 1.0 - distance / (1.0 - x), jnp.zeros(2), jnp.ones(2))
    np.testing.assert_allclose(1.0 - roots, distance, rtol=1e-6)


def test_without_a_sign_change_the_answer_is_the_end_it_points_to():
    offset = jnp.array([5.0, -5.0, jnp.nan])
    roots = decreasing_root(lambda x: offset - x, jnp.zeros(3), jnp.ones(3))
    np.testing.assert_array_equal(roots, [1.0, 0.0, np.nan])


def test_a_flat_function_does_not_break_its_neighbours():
    scale = jnp.array([0.0, 1.0])
    roots = decreasing_root(lambda x: scale * (0.3 - x), jnp.zeros(2), jnp.ones(2))
    np.testing.assert_allclose(roots[1], 0.3, rtol=1e-14)
    assert np.isfinite(roots[0])


def test_the_answer_does_not_depend_on_who_is_asked_beside():
    targets = jnp.array([0.1, 1.0, 7.0, 1e-12, 9.0, jnp.nan])  # the fifth has no root
    together = decreasing_root(lambda x: targets - x**3, jnp.zeros(6), jnp.full(6, 2.0))
    for target, root in zip(targets, together, strict=True):
        alone = decreasing_root(lambda x, t=target: t - x**3, 0.0, 2.0)
        np.testing.assert_array_equal(alone, root)


def test_a_loop_ends_when_the_last_has_settled():
    evaluations = []

    def counted(x):
        jax.debug.callback(lambda: evaluations.append(1))
        return 0.3 - x

    jax.block_until_ready(decreasing_root(counted, jnp.zeros(2), jnp.ones(2)))
    jax.effects_barrier()
    assert len(evaluations) < 10


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_root_derivative_is_the_implicit_one(mode):
    root = lambda t: decreasing_root(lambda x: t - x**3, 0.0, 2.0)  # noqa: E731
    np.testing.assert_allclose(mode(root)(0.5), 0.5 ** (-2 / 3) / 3, rtol=1e-12)
    # Where the bound decides, the root moves with the bound and not with the function.
    capped = lambda top: decreasing_root(lambda x: 9.0 - x**3, 0.0, top)  # noqa: E731
    np.testing.assert_allclose(mode(capped)(1.5), 1.0, rtol=1e-12)


def test_root_traces_once_for_a_shape():
    traced = 0

    @jax.jit
    def solve(target):
        nonlocal traced
        traced += 1
        return decreasing_root(lambda x: target - x, 0.0, 1.0)

    solve(0.2), solve(0.7)
    assert traced == 1
    np.testing.assert_allclose(jax.vmap(solve)(jnp.array([0.2, 0.7])), [0.2, 0.7], rtol=1e-14)


def test_weighted_logarithm_at_its_edges():
    (weight, x) = floats([0.5, 0.0, 0.5, 0.0, np.nan], [1.0, -2.0, -1.0, -1.0, 0.1])
    value = weighted_log1p(weight, x)
    np.testing.assert_allclose(value, [0.5 * np.log(2), 0.0, -np.inf, 0.0, np.nan], rtol=1e-15)
    gradient = jax.grad(lambda y: weighted_log1p(weight, y)[0])(x)
    np.testing.assert_allclose(gradient, [0.25, 0.0, 0.0, 0.0, np.nan], rtol=1e-15)


def test_quadrature_integrates_polynomials_on_the_unit_interval():
    nodes, weights = gauss_legendre(8)
    np.testing.assert_allclose(weights @ nodes**15, 1 / 16, rtol=1e-13)


def test_floats_are_float64():
    assert {value.dtype for value in floats(1, [1, 2], np.float32(3))} == {np.dtype(np.float64)}
