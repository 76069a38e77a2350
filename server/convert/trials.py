"""What a backtest or search has tried, between the worker, what is counted, and the contract."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date

from google.protobuf.message import Message
from positionsizing.v1 import simulation_service_pb2 as pb

from compute.simulate.history import PriceHistory
from compute.simulate.overfitting import deflated
from server.calls.errors import FieldViolation
from server.convert.names import id_violations, timestamp
from server.convert.ranges import number_violations
from server.frames import packed, unpacked
from storage.postgres.trials import LockedOpening, StoredTrial, Trial

Request = pb.RunBacktestRequest | pb.TuneParametersRequest


@dataclass(frozen=True)
class SharpeRatios:
    """Sharpe ratios a session of settings, None where there is none; of the best with its error."""

    each: tuple[float | None, ...]
    best: tuple[float, float] | None


@dataclass(frozen=True)
class Tried:
    """Settings that were tried, each by its hash, from `first_date` to `last_date`.

    sharpes, best: see `SharpeRatios`. trials_before: by the word of the caller. locked: the first
    and last of the sessions that a search has locked.
    """

    experiment: str
    method: str
    first_date: str
    last_date: str
    hashes: tuple[str, ...]
    sharpes: tuple[float | None, ...]
    best: tuple[float, float] | None
    trials_before: int
    locked: tuple[str, str] | None = None

    def trials(self) -> list[Trial]:
        """Those that differ, to be stored."""
        first, last = date.fromisoformat(self.first_date), date.fromisoformat(self.last_date)
        pairs = dict(zip(self.hashes, self.sharpes, strict=True))
        return [Trial(bytes.fromhex(key), first, last, value) for key, value in pairs.items()]


@dataclass(frozen=True)
class Ran:
    """An answer as far as a worker knows it, and what was tried for it."""

    answer: Message
    tried: Tried

    def encoded(self) -> bytes:
        """Both, for `decoded`."""
        told = json.dumps(asdict(self.tried), allow_nan=False).encode()
        return packed([told, self.answer.SerializeToString()])


def decoded(content: bytes) -> tuple[Tried, bytes]:
    """What was tried, and the encoded answer."""
    told, answer = unpacked(content)
    values = json.loads(told)
    for name in ("hashes", "sharpes", "best", "locked"):
        values[name] = None if values[name] is None else tuple(values[name])
    return Tried(**values), answer


def experiment_violations(request: Request) -> Iterator[FieldViolation]:
    """What is wrong with the name of the experiment."""
    if request.experiment:
        yield from id_violations(request.experiment, "experiment")


def experiment_of(request: Request) -> str:
    """What the settings are counted under: the caller's name, or one made of the instruments."""
    if request.experiment:
        return request.experiment
    names = "\0".join(sorted(request.prices.instrument_ids))
    return f"instruments-{hashlib.sha256(names.encode()).hexdigest()[:16]}"


def hashes_of(
    settings: Iterable[pb.BacktestSetting],
    history: PriceHistory,
    scenarios: Sequence[Message] = (),
) -> tuple[str, ...]:
    """SHA-256 of each setting but its name, with the instruments and dates that it meets.

    scenarios: those of the request, which limits on stress name.
    """
    span = (history.dates[0], history.dates[-1], str(len(history.dates)))
    common = hashlib.sha256("\0".join((*span, *sorted(history.instrument_ids))).encode())
    found = []
    for setting in settings:
        unnamed = pb.BacktestSetting()
        unnamed.CopyFrom(setting)
        unnamed.ClearField("name")
        parts = [unnamed, *(scenarios if setting.limits.joint.stress else ())]
        digest = common.copy()
        digest.update(packed(part.SerializeToString(deterministic=True) for part in parts))
        found.append(digest.hexdigest())
    return tuple(found)


@dataclass(frozen=True)
class Known:
    """What else is known of an experiment.

    counted, deviation: of all trials and of their Sharpe ratios, None below two. openings: looks
    before at locked sessions of this search, newest first. seen: trials that ran over these.
    """

    counted: int
    deviation: float | None
    openings: Sequence[LockedOpening] = ()
    seen: int = 0


def completion(tried: Tried, known: Known) -> Message:
    """The part of an answer that depends on what else was tried."""
    own = len(set(tried.hashes))
    luck = pb.Overfitting(
        trials=own + max(tried.trials_before, known.counted - own),
        experiment=tried.experiment,
        trials_counted=known.counted,
    )
    if tried.best is not None:
        luck.deflated_sharpe = deflated(*tried.best, known.deviation or 0.0, luck.trials)
    if tried.locked is None:
        return pb.RunBacktestResponse(overfitting=luck)
    return pb.TuneParametersResponse(
        overfitting=luck,
        locked_openings_before=len(known.openings),
        locked_opened_last=opening_message(known.openings[0]) if known.openings else None,
        locked_trials_before=known.seen,
    )


def list_violations(request: pb.ListTrialsRequest) -> Iterator[FieldViolation]:
    """What is wrong with a request for a list."""
    yield from number_violations(request)
    yield from id_violations(request.experiment, "experiment")


def trial_message(stored: StoredTrial) -> pb.CountedTrial:
    """A trial that was counted."""
    trial = stored.trial
    return pb.CountedTrial(
        trial_hash=trial.trial_hash.hex(),
        first_date=trial.first_date.isoformat(),
        last_date=trial.last_date.isoformat(),
        sharpe=trial.sharpe,
        method=stored.method,
        author=stored.author,
        create_time=timestamp(stored.create_time),
    )


def opening_message(stored: LockedOpening) -> pb.LockedOpening:
    """A look at locked sessions."""
    return pb.LockedOpening(
        first_date=stored.first_date.isoformat(),
        last_date=stored.last_date.isoformat(),
        author=stored.author,
        open_time=timestamp(stored.create_time),
    )
