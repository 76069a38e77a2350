"""What every custom sizing algorithm has to do, tried out: `sizing algorithm test`.

Failures of a check are told, not raised. A check that an honest algorithm may miss, such as sizes
that don't depend on the other lines, only warns.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from compute.algorithm import AlgorithmInput, AlgorithmPortfolio
from compute.market import Floats, Integers
from server.algorithms.asked import AlgorithmError
from server.algorithms.registry import Algorithms
from server.algorithms.settings import AlgorithmSettings

REPEATS = 20
LINES_MAX = 10_000
AGREEMENT = 1e-9
"""Sizes of the same lines in another order may differ by so much."""
_LEFT_S = 60.0

Ask = Callable[[AlgorithmInput], Awaitable[Floats]]


class Verdict(Enum):
    """Of one check."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One check and what came of it."""

    name: str
    verdict: Verdict
    text: str = ""


def book(n: int, seed: int = 7) -> AlgorithmInput:
    """A book of n plausible lines, the same for the same seed."""
    random = np.random.default_rng(seed)
    side = np.where(random.random(n) < 0.7, 1.0, -1.0)
    mean, deviation = random.uniform(-0.001, 0.004, n), random.uniform(0.005, 0.05, n)
    bets = random.random(n) < 0.3
    p, payoff = random.uniform(0.4, 0.65, n), random.uniform(0.5, 2.0, n)
    mean = np.where(bets, p * payoff - (1.0 - p), mean)
    deviation = np.where(bets, np.sqrt(p * (1.0 - p)) * (payoff + 1.0), deviation)
    raw = side * np.clip(mean / deviation**2, 0.0, 4096.0)
    columns = {
        "side": side,
        "win_probability": np.where(bets, p, np.nan),
        "payoff": np.where(bets, payoff, np.nan),
        "loss_fraction": np.where(bets, 1.0, np.nan),
        "expected_return": mean,
        "volatility": deviation,
        "raw_kelly": raw,
        "kelly": 0.8 * raw,
        "price": random.uniform(1.0, 500.0, n),
        "annual_volatility": deviation * np.sqrt(252.0),
        "weight_before": np.where(random.random(n) < 0.5, 0.0, 0.02 * side),
        "weight_min": np.full(n, -0.1),
        "weight_max": np.full(n, 0.1),
    }
    numbers = {
        "kelly_fraction": 0.5,
        "risk_free_rate": 0.0,
        "cost_rate": 0.0,
        "periods_per_year": 252.0,
    }
    before = columns["weight_before"]
    gross, net = float(np.abs(before).sum()), float(before.sum())
    portfolio = AlgorithmPortfolio("test", "test", "USD", 1e6, 1.0 - gross, gross, net, False)
    return AlgorithmInput(tuple(f"I{i}" for i in range(n)), columns, numbers, portfolio)


def reordered(question: AlgorithmInput, order: Integers) -> AlgorithmInput:
    """The same lines in another order, or some of them."""
    columns = {name: column[order] for name, column in question.columns.items()}
    return replace(
        question, instrument_ids=tuple(question.instrument_ids[i] for i in order), columns=columns
    )


def hostile() -> Iterator[tuple[str, AlgorithmInput]]:
    """Books that no algorithm should break on, by what is odd about them."""
    yield "no lines", book(0)
    yield "one line", book(1)
    plain = book(16)
    for name in ("annual_volatility", "weight_before", "price"):
        yield f"{name} unknown", _with(plain, name, np.nan)
    for value in (0.0, 1e-300, 1e300):
        yield f"volatility {value:g}", _with(plain, "volatility", value)
    yield "no edge at all", _with(_with(plain, "kelly", 0.0), "raw_kelly", 0.0)
    yield "an edge beyond all bounds", _with(_with(plain, "kelly", 4096.0), "raw_kelly", 4096.0)
    yield "the same instrument twice", replace(plain, instrument_ids=("I0",) * 16)
    yield "names of other scripts", replace(plain, instrument_ids=("\u682a\u5f0f \U0001f4c8",) * 16)
    broke = replace(plain.portfolio, equity=1e-9, free=-5.0, is_reducing=True)
    yield "a margin deficit", replace(plain, portfolio=broke)
    yield f"{LINES_MAX} lines", book(LINES_MAX)


def _with(question: AlgorithmInput, name: str, value: float) -> AlgorithmInput:
    column = np.full(len(question.instrument_ids), value)
    if name in ("kelly", "raw_kelly"):
        column = column * question.columns["side"]
    return replace(question, columns={**question.columns, name: column})


async def conformance(
    name: str, algorithms: Algorithms, numbers: dict[str, float]
) -> list[Finding]:
    """Every check on one algorithm; `numbers`: its own parameters."""
    settings = algorithms.settings(name)
    assert settings is not None, "one of the names"

    async def ask(question: AlgorithmInput) -> Floats:
        asked = replace(question, parameters={**question.parameters, **numbers})
        return (await algorithms.ask(name, asked, _LEFT_S)).weight

    try:
        described = await algorithms.describe(name)
        first = await ask(book(64))
    except AlgorithmError as error:
        return [Finding("answers", Verdict.FAIL, f"{error.reason}: {error.message}")]
    found = [Finding("answers", Verdict.PASS, f"version {described.version}")]
    found.append(_sizes(first, book(64), settings.weight_max))
    for check in (_deterministic, _order, _alone, _money):
        found.append(await _tried(check, ask))
    found += [await _hostile(odd, question, ask, settings) for odd, question in hostile()]
    found.append(await _tried(lambda a: _time(a, settings), ask))
    return found


async def _tried(check: Callable[[Ask], Awaitable[Finding]], ask: Ask) -> Finding:
    try:
        return await check(ask)
    except AlgorithmError as error:
        name = getattr(check, "__name__", "").strip("_") or "time"
        return Finding(name, Verdict.FAIL, f"{error.reason}: {error.message}")


def _sizes(weight: Floats, question: AlgorithmInput, most: float) -> Finding:
    name, n = "sizes", len(weight)
    missing = int(np.isnan(weight).sum())
    sized = weight[~np.isnan(weight)]
    if (np.abs(sized) > most).any():
        text = f"{np.abs(sized).max():.6g} is beyond weight_max {most:.6g}: refused"
        return Finding(name, Verdict.WARN, text)
    if (weight * question.columns["side"] < 0.0).any():
        return Finding(name, Verdict.FAIL, "some are against the side of their line")
    if missing == n:
        return Finding(name, Verdict.FAIL, "no line of a plausible book gets one")
    text = f"{n - missing} of {n} lines, {np.abs(sized).sum():.4g} of equity in all"
    return Finding(name, Verdict.PASS, text)


async def _deterministic(ask: Ask) -> Finding:
    question = book(64)
    answers = {(await ask(question)).tobytes() for _ in range(REPEATS)}
    if len(answers) > 1:
        text = f"{len(answers)} different answers to the same question"
        return Finding("deterministic", Verdict.FAIL, text)
    return Finding("deterministic", Verdict.PASS, f"{REPEATS} times the same to the last bit")


async def _order(ask: Ask) -> Finding:
    question = book(64)
    order = np.random.default_rng(11).permutation(64)
    apart = _apart((await ask(question))[order], await ask(reordered(question, order)))
    if apart > AGREEMENT:
        text = f"the same lines in another order differ by {apart:.3g}"
        return Finding("order of lines", Verdict.FAIL, text)
    return Finding("order of lines", Verdict.PASS, "makes no difference")


async def _alone(ask: Ask) -> Finding:
    question, some = book(64), np.arange(16, dtype=np.int64)
    apart = _apart((await ask(question))[some], await ask(reordered(question, some)))
    if apart > AGREEMENT:
        text = "sizes depend on the other lines; right for an algorithm of the whole book"
        return Finding("lines by themselves", Verdict.WARN, text)
    return Finding("lines by themselves", Verdict.PASS, "sizes don't depend on the other lines")


async def _money(ask: Ask) -> Finding:
    question = book(64)
    richer = replace(question, portfolio=replace(question.portfolio, equity=1e7))
    if _apart(await ask(question), await ask(richer)) > AGREEMENT:
        return Finding("ten times the money", Verdict.WARN, "changes the weights")
    return Finding("ten times the money", Verdict.PASS, "the same weights")


async def _hostile(
    odd: str, question: AlgorithmInput, ask: Ask, settings: AlgorithmSettings
) -> Finding:
    name = f"odd input: {odd}"
    try:
        weight = await ask(question)
    except AlgorithmError as error:
        verdict = Verdict.WARN if error.reason == "TIMEOUT" else Verdict.FAIL
        return Finding(name, verdict, f"{error.reason}: {error.message}")
    with np.errstate(invalid="ignore"):
        wrong = (np.abs(weight) > settings.weight_max) | (weight * question.columns["side"] < 0.0)
    refused = int((wrong | np.isnan(weight)).sum())
    return Finding(name, Verdict.PASS, f"{refused} lines left without a size" if refused else "")


async def _time(ask: Ask, settings: AlgorithmSettings) -> Finding:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        await ask(book(1024))
        times.append(1000 * (time.perf_counter() - started))
    median, most = float(np.median(times)), max(times)
    verdict = Verdict.PASS if most < settings.deadline_ms / 2 else Verdict.WARN
    text = (
        f"1024 lines in {median:.1f} ms, at most {most:.1f}; the deadline is "
        f"{settings.deadline_ms:g} ms"
    )
    return Finding("time", verdict, text)


def _apart(left: Floats, right: Floats) -> float:
    """The largest difference; infinite where only one has a size."""
    if (np.isnan(left) != np.isnan(right)).any():
        return float("inf")
    return float(np.nanmax(np.abs(left - right), initial=0.0))
