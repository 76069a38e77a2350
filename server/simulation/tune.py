"""TuneParameters: from a checked request to its answer, without I/O."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.market import Floats
from compute.ranges import RANGES
from compute.simulate.backtest import Backtest
from compute.simulate.bootstrap import mean_interval
from compute.simulate.fast_settings import RunChunks
from compute.simulate.history import PriceHistory
from compute.simulate.honoured import Mode
from compute.simulate.setting import Setting
from compute.simulate.strategies import GivenSignals
from compute.simulate.superiority import superiority
from compute.simulate.tuning import Choice, Evidence, Objection, choose, objections, points
from compute.simulate.volatility_forecast import HALF_LIFE, SESSIONS
from server.calls.errors import FieldViolation, invalid
from server.convert import simulation as convert
from server.convert import simulation_answer as answer
from server.convert import trials
from server.convert.backtest_setting import setting_of, setting_violations
from server.convert.delisting import applied
from server.convert.ranges import number_violations
from server.convert.risk import shock_event
from server.convert.trials import Ran, SharpeRatios, experiment_violations
from server.jobs.progress import Progress
from server.simulation.simulate import tell_luck

RANGES_MAX = 8
STRATEGIES = ("mean_return", "volatility_forecast")
"""Those that have numbers to search."""
PARTS = ("parameters", "limits", "costs", *STRATEGIES)
DEFAULTS = {
    "mean_return.sessions": 252.0,
    "volatility_forecast.half_life": HALF_LIFE,
    "volatility_forecast.sessions": float(SESSIONS),
}
SESSIONS_MIN = 20
"""Fewer in a segment say nothing of a growth."""

_NUMBERS = {
    FieldDescriptor.TYPE_DOUBLE: float,
    FieldDescriptor.TYPE_INT32: int,
    FieldDescriptor.TYPE_INT64: int,
}


def tune_violations(request: pb.TuneParametersRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request before its history is looked at, by field path."""
    if request.WhichOneof("history") is None:
        yield FieldViolation("prices", "MISSING", "give prices or universe_id")
    yield from number_violations(request)
    yield from experiment_violations(request)
    yield from setting_violations(request.setting, "setting.")
    yield from convert.stress_violations(request)
    if not 1 <= len(request.ranges) <= RANGES_MAX:
        text = f"has {len(request.ranges)} entries; 1 to {RANGES_MAX} are accepted"
        yield FieldViolation("ranges", "OUT_OF_RANGE", text)
    seen: set[str] = set()
    for place, item in enumerate(request.ranges):
        yield from _range_violations(item, f"ranges[{place}]", seen)
        yield from _other_strategy(item, f"ranges[{place}]", request.setting)
        seen.add(item.field)


def _range_violations(item: pb.TunedRange, path: str, seen: set[str]) -> Iterator[FieldViolation]:
    field = _descriptor(item.field)
    if field is None:
        text = f"{item.field!r} is no number of a setting, such as 'parameters.kelly_fraction'"
        yield FieldViolation(f"{path}.field", "UNKNOWN_FIELD", text)
        return
    if item.field in seen:
        yield FieldViolation(f"{path}.field", "DUPLICATE", f"{item.field!r} is given twice")
    if not item.low < item.high:
        yield FieldViolation(f"{path}.high", "EMPTY_RANGE", "must be above low")
    if item.is_logarithmic and item.low <= 0.0:
        yield FieldViolation(f"{path}.low", "OUT_OF_RANGE", "must be above 0 where ratios count")
    assert field.containing_type is not None
    allowed = RANGES.get(f"{field.containing_type.name}.{field.name}")
    for name in ("low", "high"):
        value = getattr(item, name)
        if allowed is not None and not allowed.holds(np.array([value])):
            text = f"is {value:g}; for {item.field} it must be {allowed.advice(value)}"
            yield FieldViolation(f"{path}.{name}", "OUT_OF_RANGE", text)


def _other_strategy(
    item: pb.TunedRange, path: str, setting: pb.BacktestSetting
) -> Iterator[FieldViolation]:
    """A number of a rule that the setting doesn't follow would put that rule in its place."""
    part, _, name = item.field.partition(".")
    if part not in STRATEGIES:
        return
    is_other = setting.WhichOneof("strategy") != part
    expected = setting.volatility_forecast.WhichOneof("expected")
    if is_other or (name in ("premium", "sharpe") and name != expected):
        text = f"{item.field!r} is not what the setting's signals come from"
        yield FieldViolation(f"{path}.field", "NOT_APPLICABLE", text)


def _descriptor(path: str) -> FieldDescriptor | None:
    """The number of a setting that a path leads to, e.g. "limits.weight_max"."""
    part, _, name = path.partition(".")
    if part not in PARTS:
        return None
    message = pb.BacktestSetting.DESCRIPTOR.fields_by_name[part].message_type
    field = None if message is None else message.fields_by_name.get(name)
    if field is None or field.is_repeated or field.type not in _NUMBERS:
        return None
    return field


def tune_parameters(request: pb.TuneParametersRequest, run_chunks: RunChunks | None = None) -> Ran:
    """The answer to TuneParameters; the prices are in the request. Raises `Refusal`.

    run_chunks: what runs the chunks of the search; None: this machine.
    """
    whole = convert.checked_history(request)
    cut = _cut(request, whole)
    past = whole.until(cut)
    cube, values = _trials(request)
    messages = [_with(request, row) for row in values]
    stress = tuple(shock_event(x.scenario_id, 0, x.shock) for x in request.stress_scenarios)
    # Signals that are given may go on into the locked sessions, which the search doesn't reach.
    shared = dict[bytes, GivenSignals]()
    settings = [
        setting_of(message, place, whole, stress, shared, "setting")
        for place, message in enumerate(messages)
    ]
    for setting in settings:
        # A range may set a field that the setting as it is leaves unset.
        convert.check_honoured(past, [("setting", setting)], Mode.FAST)
    found = convert.ran_fast(past, settings, run_chunks, Progress().tell)
    growth = np.stack([_log_growth(item, cut - 1) for item in found], axis=1)
    segments = request.segments if request.HasField("segments") else 6
    quantile = request.quantile if request.HasField("quantile") else 0.25
    choice = choose(cube, growth, segments, quantile)
    chosen = choice.chosen if choice.plateau[choice.chosen] > choice.plateau[0] else 0
    response = pb.TuneParametersResponse(
        fields=[item.field for item in request.ranges],
        chosen=chosen,
        proposal=messages[chosen].parameters,
        walk_forward_growth=choice.walk_forward,
        base_growth=[float(piece[:, 0].mean()) for piece in np.array_split(growth, segments)][1:],
        locked_from=whole.dates[cut],
        history_hash=answer.history_hash(whole),
        delistings=applied(whole),
    )
    _tell(response, values, choice)
    _locked(response, whole, cut, [settings[0], settings[chosen]])
    hashes = trials.hashes_of(messages, past, request.stress_scenarios)
    response.overfitting.trials = len(set(hashes)) + request.trials_before
    response.overfitting.experiment = trials.experiment_of(request)
    sharpes = _luck(response, request, growth, chosen)
    held = _objections(response)
    response.is_recommended = not held
    response.objections.extend(
        pb.TuneObjection.Value(f"TUNE_OBJECTION_{objection.name}") for objection in held
    )
    tried = trials.Tried(
        response.overfitting.experiment,
        "TuneParameters",
        past.dates[0],
        past.dates[-1],
        hashes,
        sharpes.each,
        sharpes.best,
        request.trials_before,
        (whole.dates[cut], whole.dates[-1]),
    )
    return Ran(response, tried)


def _objections(response: pb.TuneParametersResponse) -> tuple[Objection, ...]:
    """What speaks against the chosen trial, by what is told of it."""
    if not response.chosen:
        return (Objection.NOTHING_BETTER,)
    luck = response.overfitting
    evidence = Evidence(
        np.array(response.walk_forward_growth),
        np.array(response.base_growth),
        response.locked_difference.mean,
        response.superior_ability_p if response.HasField("superior_ability_p") else None,
        luck.overfitting_probability if luck.HasField("overfitting_probability") else None,
    )
    return objections(evidence)


def _cut(request: pb.TuneParametersRequest, history: PriceHistory) -> int:
    """The first locked session."""
    share = request.locked_share if request.HasField("locked_share") else 0.2
    segments = request.segments if request.HasField("segments") else 6
    cut = round(len(history.dates) * (1.0 - share))
    if cut - 1 < segments * SESSIONS_MIN or len(history.dates) - cut < SESSIONS_MIN:
        text = (
            f"has {len(history.dates)} sessions; {segments} segments before the locked part need "
            f"{SESSIONS_MIN} each, and the locked part as many"
        )
        raise invalid("prices.dates", "TOO_FEW", text)
    return cut


def _trials(request: pb.TuneParametersRequest) -> tuple[Floats, list[list[float]]]:
    """Points in the unit cube, the setting as it is first, and the values of the fields there."""
    count = request.trials if request.HasField("trials") else 128
    cube = points(len(request.ranges), count - 1, request.seed)
    base = [_value(request.setting, item.field) for item in request.ranges]
    own = [_to_unit(item, value) for item, value in zip(request.ranges, base, strict=True)]
    rows = [
        [_from_unit(item, unit) for item, unit in zip(request.ranges, row, strict=True)]
        for row in cube
    ]
    return np.concatenate([np.array([own]), cube]), [base, *rows]


def _value(setting: pb.BacktestSetting, path: str) -> float:
    """The field as it is sized with: its default where it is unset."""
    part, _, name = path.partition(".")
    if not _has_presence(path) or getattr(setting, part).HasField(name):
        return float(getattr(getattr(setting, part), name))
    if part == "parameters":
        from compute.parameters import EffectiveParameters

        known = getattr(EffectiveParameters(), name, None)
        return float("nan") if known is None else float(known)
    return DEFAULTS.get(path, float("nan"))


def _has_presence(path: str) -> bool:
    field = _descriptor(path)
    return field is not None and field.has_presence


def _to_unit(item: pb.TunedRange, value: float) -> float:
    """Where a value lies between the ends; the middle for one that is unset."""
    if not np.isfinite(value) or (item.is_logarithmic and value <= 0.0):
        return 0.5
    if item.is_logarithmic:
        return float(np.log(value / item.low) / np.log(item.high / item.low))
    return (value - item.low) / (item.high - item.low)


def _from_unit(item: pb.TunedRange, unit: float) -> float:
    if item.is_logarithmic:
        value = item.low * (item.high / item.low) ** unit
    else:
        value = item.low + unit * (item.high - item.low)
    field = _descriptor(item.field)
    whole = field is not None and _NUMBERS[field.type] is int
    return float(round(value)) if whole else float(value)


def _with(request: pb.TuneParametersRequest, values: Sequence[float]) -> pb.BacktestSetting:
    """The setting with these values; what is unset in it and NaN here stays unset."""
    setting = pb.BacktestSetting()
    setting.CopyFrom(request.setting)
    for item, value in zip(request.ranges, values, strict=True):
        part, _, name = item.field.partition(".")
        field = _descriptor(item.field)
        if field is not None and np.isfinite(value):
            setattr(getattr(setting, part), name, _NUMBERS[field.type](value))
    return setting


def _log_growth(found: Backtest, sessions: int) -> Floats:
    """Log growth a session, (n,), -inf from ruin on."""
    out = np.full(sessions, -np.inf)
    returns = found.returns
    with np.errstate(divide="ignore"):
        out[: len(returns)] = np.log1p(np.maximum(returns, -1.0))
    return out


def _tell(
    response: pb.TuneParametersResponse, values: Sequence[Sequence[float]], choice: Choice
) -> None:
    for row, objective, plateau in zip(values, choice.objective, choice.plateau, strict=True):
        response.trials.add(
            values=row,
            objective=objective if np.isfinite(objective) else None,
            plateau=plateau if np.isfinite(plateau) else None,
        )


def _locked(
    response: pb.TuneParametersResponse,
    whole: PriceHistory,
    cut: int,
    settings: Sequence[Setting],
) -> None:
    """Looks at the locked sessions, once, with the setting as it was and the choice."""
    runs = convert.ran_fast(whole, settings)
    base, best = (_log_growth(item, len(whole.dates) - 1)[cut - 1 :] for item in runs)
    best = np.maximum(best, -700.0)
    response.locked_growth.CopyFrom(answer.interval(mean_interval(best)))
    if response.chosen:
        difference = best - np.maximum(base, -700.0)
        response.locked_difference.CopyFrom(answer.interval(mean_interval(difference)))


def _luck(
    response: pb.TuneParametersResponse,
    request: pb.TuneParametersRequest,
    growth: Floats,
    chosen: int,
) -> SharpeRatios:
    """Fills in how much of the choice is luck; what was ruined has no ratio."""
    response.overfitting.best = str(chosen)
    alive = np.asarray(np.isfinite(growth).all(axis=0))
    each: list[float | None] = [None] * growth.shape[1]
    if not alive[chosen]:
        return SharpeRatios(tuple(each), None)
    place = int(alive[:chosen].sum())
    found = tell_luck(response.overfitting, np.expm1(growth[:, alive]), place)
    for column, ratio in zip(np.flatnonzero(alive), found.each, strict=True):
        each[int(column)] = ratio
    if alive[0]:
        tested = superiority(growth[:, alive] - growth[:, [0]], seed=request.seed)
        if tested is not None:
            response.superior_ability_p, response.reality_check_p = tested
    return SharpeRatios(tuple(each), found.best)


def work(run_chunks: RunChunks | None) -> tuple[Any, Any]:
    """How the worker reads the request, and what it does with it."""

    def tune(request: pb.TuneParametersRequest) -> bytes:
        return tune_parameters(request, run_chunks).encoded()

    return pb.TuneParametersRequest.FromString, tune
