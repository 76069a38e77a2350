"""How far backtests in mode EXACT are, kept as files until the run that they belong to is over.

    kept = KeptStates(folder)
    place = kept.of(key)                      # of one setting, by all that it depends on
    run(history, setting, ..., state=place.found(), after_session=place.keep)
    kept.drop()                               # the answer is there

Work that was ended goes on from the last state that was kept: some seconds before its end.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from compute.simulate.history import COLUMNS, PriceHistory
from compute.simulate.run_state import RunState, arrays_of, state_of
from server.algorithms.asked import Description
from server.frames import packed
from server.simulation.kept_files import add, digest_of, kept_in, read, write

EVERY_S = 5.0
"""At least, from one state that is kept to the next: writing one takes milliseconds."""


class KeptStates:
    """The states of the settings of one run."""

    def __init__(
        self,
        folder: Path,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """folder: made where it is missing. every_s: see `EVERY_S`."""
        self._folder, self._every_s, self._clock = folder, every_s, clock
        self._paths: set[Path] = set()
        kept_in(folder)

    def of(self, key: str) -> "KeptState":
        """That of one setting."""
        path = self._folder / f"{key}.npz"
        self._paths.add(path)
        return KeptState(path, self._every_s, self._clock)

    def drop(self) -> None:
        """The files of all settings so far."""
        for path in self._paths:
            path.unlink(missing_ok=True)


class KeptState:
    """The state of one setting, in a file that the next one takes the place of."""

    def __init__(self, path: Path, every_s: float, clock: Callable[[], float]) -> None:
        self._path, self._every_s, self._clock = path, every_s, clock
        self._last_s = clock()

    def found(self) -> RunState | None:
        """What an earlier run has kept; None where there is nothing that can be read."""
        arrays = read(self._path)
        try:
            return None if arrays is None else state_of(arrays)
        except (KeyError, TypeError, ValueError):
            return None

    def keep(self, state: RunState) -> None:
        """Writes the state, if it is over or the last one was written long enough ago."""
        now = self._clock()
        if state.is_over or now - self._last_s >= self._every_s:
            write(self._path, arrays_of(state))
            self._last_s = now


def keys_of(
    history: PriceHistory,
    settings: Sequence[bytes],
    scenarios: Sequence[bytes],
    algorithms: Sequence[Description | None],
) -> list[str]:
    """The hash of all that what comes of each setting depends on.

    settings, scenarios: encoded. algorithms: who is asked for each setting, None where nobody is.
    """
    ends = [(item.session, item.instrument, item.price) for item in history.delistings]
    common = digest_of(history.dates, history.instrument_ids, history.sector, sorted(ends))
    columns = {name: getattr(history, name) for name in COLUMNS}
    add(common, {name: column for name, column in columns.items() if column is not None})
    common.update(packed(scenarios))
    found = []
    for setting, algorithm in zip(settings, algorithms, strict=True):
        own = common.copy()
        own.update(packed([setting, repr(algorithm).encode()]))
        found.append(own.hexdigest())
    return found
