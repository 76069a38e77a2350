"""The Newton equations of linear programs against a dense solve of all of them at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from compute.optimize.tail_lp import normal_equations

Array = NDArray[np.float64]


def dense(a: Array, columns: Array, give: Array, p: Array, q: Array, c: Array) -> list[Array]:
    """x, r, y of  x = G (A'y + p),  r = R (q - y),  A x - r = c  from one matrix."""
    m, k = a.shape
    whole = np.zeros((k + 2 * m, k + 2 * m))
    whole[:k, :k], whole[:k, k + m :] = np.eye(k), -columns[:, None] * a.T
    whole[k : k + m, k : k + m], whole[k : k + m, k + m :] = np.eye(m), np.diag(give)
    whole[k + m :, :k], whole[k + m :, k : k + m] = a, -np.eye(m)
    found = np.linalg.solve(whole, np.concatenate([columns * p, give * q, c]))
    return [found[:k], found[k : k + m], found[k + m :]]


def system(seed: int, m: int, d: int, g: int, n_exact: int, n_caps: int) -> tuple[Array, ...]:
    """Wide columns, excesses (several rows may share one), G, R and where R is 0."""
    rng = np.random.default_rng(seed)
    wide, excess = rng.normal(size=(m, d)), np.zeros((m, g))
    if g:
        excess[np.arange(n_exact, m), rng.integers(0, g, m - n_exact)] = -1.0
        excess[m - n_caps :] = rng.uniform(0.1, 1.0, (n_caps, g))
    columns = 10.0 ** rng.uniform(-4, 2, d + g)
    columns[rng.uniform(size=d + g) < 0.1] = 0.0  # fixed
    give = 10.0 ** rng.uniform(-6, 2, m)
    exact = np.arange(m) < n_exact
    give[exact] = 0.0
    return wide, excess, columns, give, exact


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("m", "d", "g", "n_exact", "n_caps"),
    [
        (40, 6, 0, 1, 0),
        (40, 6, 30, 1, 0),
        (40, 6, 25, 1, 2),
        (40, 16, 30, 12, 1),  # more equalities than border rows
        (12, 30, 10, 1, 1),
    ],
)
def test_both_forms_solve_the_same_equations(
    seed: int, m: int, d: int, g: int, n_exact: int, n_caps: int
) -> None:
    wide, excess, columns, give, exact = system(seed, m, d, g, n_exact, n_caps)
    rng = np.random.default_rng(seed + 100)
    p, q, c = rng.normal(size=d + g), rng.normal(size=m), rng.normal(size=m)
    expected = dense(np.hstack([wide, excess]), columns, give, p, q, c)
    assert normal_equations.by_columns(m, d) is (m == 40)

    def solve(*arrays: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        rows = normal_equations.rows(arrays[0], arrays[1], jnp.asarray(exact))
        return normal_equations.solver(rows, arrays[2], arrays[3], jnp.asarray(exact))(*arrays[4:])

    found = jax.jit(solve)(wide, excess, columns, give, p, q, c)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-8 * np.abs(theirs).max())
    left = np.hstack([wide, excess]) @ np.asarray(found[0]) - np.asarray(found[1]) - c
    assert np.abs(left).max() < 1e-9 * max(1.0, np.abs(expected[0]).max())


def test_rows_multiply_as_the_matrix_does() -> None:
    wide, excess, _, _, exact = system(7, 30, 5, 20, 2, 2)
    rows = normal_equations.rows(jnp.asarray(wide), jnp.asarray(excess), jnp.asarray(exact))
    whole, rng = np.hstack([wide, excess]), np.random.default_rng(8)
    x, y = rng.normal(size=25), rng.normal(size=30)
    np.testing.assert_allclose(rows.apply(jnp.asarray(x)), whole @ x, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(rows.adjoint(jnp.asarray(y)), y @ whole, rtol=1e-13, atol=1e-13)
