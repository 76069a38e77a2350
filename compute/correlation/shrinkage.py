"""Shrinkage of the sample covariance: Ledoit-Wolf towards a multiple of one, and nonlinear."""

import numpy as np

from compute.history import Floats

_ROOT = np.sqrt(5.0)
_FAR = 2.0 * _ROOT
"""From where the series of `_hilbert` is summed; 26 terms of it are exact there."""
_ODD = 2.0 * np.arange(26) + 1.0
_SERIES = 1.0 / (_ODD * (_ODD + 2.0))


def ledoit_wolf(returns: Floats, probability: Floats | None = None) -> tuple[Floats, float]:
    """(1 - d) S + d mu I and the shrinkage d in [0, 1].

    S = X'X / T of centred returns X (T, n), mu = tr S / n, d = min(b, c) / c with
    c = |S - mu I|^2 / n and b = (sum_t |x_t|^4 / T - |S|^2) / (n T)
    (Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
    matrices", J. Multivariate Analysis 88; the convention of scikit-learn).

    probability: of each period, (T,), summing to 1; None: alike. Means are weighted by them, and
    b = sum_t p_t^2 |x_t x_t' - S|^2 / n, which is that above where all p_t are 1 / T.
    """
    count, n = returns.shape
    mean = returns.mean(axis=0) if probability is None else probability @ returns
    x = returns - mean
    sample = x.T @ x / count if probability is None else (x.T * probability) @ x
    mu = float(np.trace(sample)) / n
    squared = float(np.vdot(sample, sample))
    distance = squared / n - mu * mu
    lengths = np.einsum("ti,ti->t", x, x)
    if probability is None:
        error = (float(lengths @ lengths) / count - squared) / (n * count)
    else:
        apart = lengths**2 - 2.0 * np.einsum("ti,ti->t", x @ sample, x) + squared
        error = float(probability**2 @ apart) / n
    amount = 0.0 if distance <= 0.0 else float(np.clip(error / distance, 0.0, 1.0))
    sample *= 1.0 - amount
    sample[np.diag_indices(n)] += amount * mu
    return sample, amount


def nonlinear_eigenvalues(eigenvalues: Floats, count: int) -> Floats:
    """Shrunk eigenvalues of a sample covariance, (n,), for eigenvalues rising, (n,).

    With p eigenvalues, T = count observations and the Epanechnikov kernel of bandwidth
    h = T^(-1/3) for the density f of the eigenvalues and its Hilbert transform H,

        d_i = l_i / ((pi p/T l_i f_i)^2 + (1 - p/T - pi p/T l_i H_i)^2)

    (Ledoit and Wolf 2020, "Analytical nonlinear shrinkage of large-dimensional covariance
    matrices", Annals of Statistics 48(5), written from memory and checked against its claimed
    behaviour: the loss that shrinkage to the best rotation-equivariant estimate removes). For
    p > T the null eigenvalues share one value.
    """
    p = len(eigenvalues)
    values = eigenvalues[max(0, p - count) :]
    width = count ** (-1.0 / 3.0)
    scale = width * values[None, :]
    x = (values[:, None] - values[None, :]) / scale
    density = (0.75 / _ROOT * np.maximum(1.0 - x * x / 5.0, 0.0) / scale).mean(axis=1)
    hilbert = (_hilbert(x) / scale).mean(axis=1)
    if p <= count:
        ratio = p / count
        imaginary = np.pi * ratio * values * density
        real = 1.0 - ratio - np.pi * ratio * values * hilbert
        return np.asarray(values / (imaginary**2 + real**2))
    at_zero = float(_hilbert(np.array(-1.0 / width))) / width * float(np.mean(1.0 / values))
    null = 1.0 / (np.pi * (p - count) / count * at_zero)
    rest = values / (np.pi**2 * values**2 * (density**2 + hilbert**2))
    return np.concatenate([np.full(p - count, null), rest])


def _hilbert(x: Floats) -> Floats:
    """The Hilbert transform of the Epanechnikov kernel 3 (1 - x^2/5)+ / (4 sqrt 5), of any shape.

        H(x) = -3x / (10 pi) + 3 / (4 sqrt(5) pi) (1 - x^2/5) log |(sqrt 5 - x) / (sqrt 5 + x)|

    Far out that is a small difference of large numbers: nothing is left of it where eigenvalues are
    of unlike size, as of a money market fund beside shares. With y = sqrt(5) / x it is
    -3 / (sqrt(5) pi) sum_k y^(2k+1) / ((2k+1) (2k+3)).
    """
    far = np.abs(x) >= _FAR
    near = np.where(far, 0.0, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = (1.0 - near * near / 5.0) * np.log(np.abs((_ROOT - near) / (_ROOT + near)))
    logarithm = np.where(np.abs(near) == _ROOT, 0.0, logarithm)
    y = _ROOT / np.where(far, x, np.inf)
    series = y * np.polynomial.polynomial.polyval(y * y, _SERIES)
    close = -0.3 / np.pi * near + 0.75 / _ROOT / np.pi * logarithm
    return np.where(far, -3.0 / _ROOT / np.pi * series, close)


def ledoit_wolf_nonlinear(returns: Floats) -> Floats:
    """V diag(d) V' with the shrunk eigenvalues of `nonlinear_eigenvalues`, (n, n).

    The mean is estimated, so that T - 1 observations count. Needs 12 of them at least.
    """
    count = len(returns) - 1
    if count < 12:
        raise ValueError(f"has {count + 1} observations; nonlinear shrinkage needs 13")
    centred = returns - returns.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / count)
    floor = max(float(values[-1]), 0.0) * 1e-14
    values = np.maximum(values, floor)
    if floor == 0.0:
        raise ValueError("no instrument has any variance")
    shrunk = nonlinear_eigenvalues(values, count)
    return (vectors * shrunk) @ vectors.T
