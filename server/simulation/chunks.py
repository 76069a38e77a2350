"""Chunks of fast backtests that are done, kept as files until the run that they belong to is over.

    kept = KeptChunks(folder, in_threads(2))
    run_fast(history, settings, run=kept.run)      # what an earlier run has done is read
    kept.drop()                                    # its answer is there

A file is named by the hash of all that its chunk depends on: settings, prices, versions. So a run
that was ended goes on where it was, and another run never reads what is not its own.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from compute.simulate.fast_decision import Bounds, Features, Session
from compute.simulate.fast_settings import Outcome, RunChunks
from server.simulation.kept_files import add, digest_of, kept_in, read, write

_PART = "arr_"


class KeptChunks:
    """Runs chunks on this machine and keeps each as soon as it is done."""

    def __init__(self, folder: Path, run: RunChunks) -> None:
        """folder: made where it is missing. run: what runs those that are not kept yet."""
        self._folder, self._run = folder, run
        self._files: set[Path] = set()

    def run(
        self, sessions: Session, features: Features, chunks: Sequence[Bounds]
    ) -> Iterator[Outcome]:
        """What came of each chunk, in their order; those that were done before are read."""
        kept_in(self._folder)
        files = files_of(self._folder, sessions, features, chunks)
        self._files |= set(files)
        known = {path: load(path) for path in files}
        missing = {
            path: chunk for path, chunk in zip(files, chunks, strict=True) if known[path] is None
        }
        made = self._run(sessions, features, list(missing.values()))
        for path in files:
            outcome = known[path]
            if outcome is None:
                outcome = known[path] = next(made)
                keep(path, outcome)
            yield outcome

    def drop(self) -> None:
        """The files of all runs so far."""
        for path in self._files:
            path.unlink(missing_ok=True)


def files_of(
    folder: Path, sessions: Session, features: Features, chunks: Sequence[Bounds]
) -> list[Path]:
    """Where the outcome of each chunk is kept."""
    return [folder / f"{key}.npz" for key in keys(sessions, features, chunks)]


def keys(sessions: Session, features: Features, chunks: Sequence[Bounds]) -> list[str]:
    """The hash of all that the outcome of each chunk depends on."""
    common = digest_of(features)
    add(common, sessions._asdict())
    found = []
    for chunk in chunks:
        own = common.copy()
        add(own, chunk._asdict())
        found.append(own.hexdigest())
    return found


def keep(path: Path, outcome: Outcome) -> None:
    """Writes what came of a chunk: whole, or not at all."""
    write(path, {f"{_PART}{place}": part for place, part in enumerate(outcome)})


def load(path: Path) -> Outcome | None:
    """What came of a chunk; None where the file is missing or damaged."""
    arrays = read(path)
    if arrays is None:
        return None
    return [arrays[f"{_PART}{place}"] for place in range(len(arrays))]
