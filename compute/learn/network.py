"""Small neural networks as numbers: two hidden layers of tanh, a logit, and how they are fitted.

    h = tanh(x A + a),  g = tanh(h B + b),  logit = g'c + d

AdamW (Loshchilov and Hutter 2019) on the whole of the rows at each step, weight decay on A, B and
c only. Starts are seeded, so the same rows make the same numbers. A member is several networks,
each with a start of its own and taught without a stretch of the rows: their mean logit is the
score, and what they disagree by its error (`members.jackknifed`).
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from compute.learn.calibration import Calibrator
from compute.learn.logistic import padded_size
from compute.learn.members import Member, Scaling, jackknifed
from compute.learn.rows import Rows
from compute.market import Floats, Integers
from compute.shapes import padded

WIDTH = 32
GROUPS = 5
STEPS_MAX, STEPS_DEFAULT, PATIENCE = 300, 50, 20
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-2
BLOCK = 64
"""Lines that are multiplied at once: always as many, so that each line's sums are the same ones."""
Weights = tuple[Array, Array, Array, Array, Array, Array]
"""A, a, B, b, c, d."""


@dataclass(frozen=True)
class Network(Member):
    """G networks, calibrated. first: (G, k + 1, W), the biases last; second: (G, W + 1, W); last:
    (G, W + 1)."""

    features: tuple[str, ...]
    scaling: Scaling
    first: Floats
    second: Floats
    last: Floats
    calibrator: Calibrator = field(default_factory=Calibrator)

    def score(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Member`."""
        n = len(x)
        scaled = np.zeros((-(-max(n, 1) // BLOCK) * BLOCK, x.shape[1]))
        scaled[:n] = self.scaling.apply(x)
        blocks = scaled.reshape(-1, BLOCK, x.shape[1])
        logits = np.empty((len(self.last), n))
        for g, (first, second, last) in enumerate(
            zip(self.first, self.second, self.last, strict=True)
        ):
            hidden = np.tanh(blocks @ first[:-1] + first[-1])
            hidden = np.tanh(hidden @ second[:-1] + second[-1])
            logits[g] = ((hidden * last[:-1]).sum(axis=2) + last[-1]).ravel()[:n]
        return jackknifed(logits)


def fit(rows: Rows, weight: Floats, early: Integers, late: Integers) -> Network:
    """Networks on rows by time, weighted, (n,); not calibrated.

    The number of steps is that with the least log loss on the rows `late` when taught on `early`:
    after `PATIENCE` steps that are no better the search ends. STEPS_DEFAULT where there are none.
    """
    n, k = rows.features.shape
    size = padded_size(n)
    won, nobody = padded(rows.won, size), np.zeros(size)
    steps = STEPS_DEFAULT
    if len(late):
        share, judged = np.zeros(size), np.zeros(size)
        share[early], judged[late] = weight[early] / weight[early].sum(), 1.0 / len(late)
        x = padded(Scaling.of(rows.features[early]).apply(rows.features), size, k)
        steps = int(_fitted(x, won, share, judged, np.int64(STEPS_MAX), np.int64(0))[1])
    scaling = Scaling.of(rows.features)
    x = padded(scaling.apply(rows.features), size, k)
    group = np.arange(n) * GROUPS // n
    fits = []
    for left_out in range(GROUPS):
        used = np.where(group != left_out, weight, 0.0)
        share = padded(used / used.sum(), size)
        fitted, _ = _fitted(x, won, share, nobody, np.int64(steps), np.int64(left_out))
        fits.append([np.asarray(item) for item in fitted])
    first, first_bias, second, second_bias, last, last_bias = map(np.stack, zip(*fits, strict=True))
    return Network(
        rows.names,
        scaling,
        np.concatenate([first, first_bias[:, None, :]], axis=1),
        np.concatenate([second, second_bias[:, None, :]], axis=1),
        np.concatenate([last, last_bias[:, None]], axis=1),
    )


_State = tuple[Weights, optax.OptState, Array, Array, Array]


@jax.jit
def _fitted(
    x: Array, y: Array, share: Array, judged: Array, steps: Array, seed: Array
) -> tuple[Weights, Array]:
    """The network after `steps` steps, and after how many the loss of the rows weighted by `judged`
    (n,) was least; share: (n,), the weights of rows that teach, of sum 1. Where `judged` has rows
    it stops when these are no better for `PATIENCE` steps."""
    weights = _start(jax.random.key(seed), x.shape[1])
    is_decayed = (True, False, True, False, True, False)
    method = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY, mask=is_decayed)
    is_judged = jnp.sum(judged) > 0.0

    def losses(weights: Weights) -> tuple[Array, Array]:
        logit = _logit(weights, x)
        each = jnp.logaddexp(0.0, logit) - y * logit
        return jnp.sum(share * each), jnp.sum(judged * each)

    def step(state: _State) -> _State:
        weights, inner, count, least, best = state
        slope, loss = jax.grad(losses, has_aux=True)(weights)  # the loss after `count` steps
        best, least = jnp.where(loss < least, count, best), jnp.minimum(loss, least)
        change, inner = method.update(slope, inner, weights)
        return optax.apply_updates(weights, change), inner, count + 1, least, best

    def is_on(state: _State) -> Array:
        _, _, count, _, best = state
        return (count < steps) & ((count - best <= PATIENCE) | ~is_judged)

    zero = jnp.array(0, dtype=jnp.int64)
    state = weights, method.init(weights), zero, jnp.array(jnp.inf), zero
    weights, _, _, _, best = jax.lax.while_loop(is_on, step, state)
    return weights, jnp.maximum(best, 1)


def _start(key: Array, k: int) -> Weights:
    """Glorot's: variance 2 over the sum of inputs and outputs of a layer; the last layer small."""
    one, two, three = jax.random.split(key, 3)

    def layer(key: Array, into: int, out: int) -> Array:
        return jax.random.normal(key, (into, out)) * jnp.sqrt(2.0 / (into + out))

    last = 0.1 * layer(three, WIDTH, 1)[:, 0]
    none = jnp.zeros(WIDTH)
    return layer(one, k, WIDTH), none, layer(two, WIDTH, WIDTH), none, last, jnp.array(0.0)


def _logit(weights: Weights, x: Array) -> Array:
    first, first_bias, second, second_bias, last, last_bias = weights
    hidden = jnp.tanh(x @ first + first_bias[None, :])
    hidden = jnp.tanh(hidden @ second + second_bias[None, :])
    return hidden @ last + last_bias
