"""Chunks of fast backtests that are done, kept as files until the run that they belong to is over.

    kept = KeptChunks(folder, in_threads(2))
    run_fast(history, settings, run=kept.run)      # what an earlier run has done is read
    kept.drop()                                    # its answer is there

A file is named by the hash of all that its chunk depends on: settings, prices, versions. So a run
that was ended goes on where it was, and another run never reads what is not its own.
"""

import hashlib
import os
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from compute.market import Floats
from compute.simulate.fast_decision import Bounds, Features, Session
from compute.simulate.fast_settings import Outcome, RunChunks

KEPT_S = 7 * 86400.0
"""Chunks of runs that nobody went on with are dropped after so long."""


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


def versions() -> dict[str, str]:
    """What has to be the same wherever chunks run for the results to be."""
    return {name: version(name) for name in ("position-sizing", "jax", "jaxlib", "numpy")}


def files_of(
    folder: Path, sessions: Session, features: Features, chunks: Sequence[Bounds]
) -> list[Path]:
    """Where the outcome of each chunk is kept."""
    return [folder / f"{key}.npz" for key in keys(sessions, features, chunks)]


def keys(sessions: Session, features: Features, chunks: Sequence[Bounds]) -> list[str]:
    """The hash of all that the outcome of each chunk depends on."""
    common = hashlib.sha256(repr((sorted(versions().items()), features)).encode())
    _add(common, sessions._asdict())
    found = []
    for chunk in chunks:
        own = common.copy()
        _add(own, chunk._asdict())
        found.append(own.hexdigest())
    return found


def _add(digest: Any, arrays: Mapping[str, Any]) -> None:
    for name, array in arrays.items():
        values = np.ascontiguousarray(array)
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())


def keep(path: Path, outcome: Outcome) -> None:
    """Writes what came of a chunk: whole, or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, *outcome)
    part.replace(path)


def load(path: Path) -> Outcome | None:
    """What came of a chunk; None where the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            parts: list[Floats] = [found[f"arr_{place}"] for place in range(len(found.files))]
            return parts
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def forget_old(folder: Path, before: float) -> None:
    """Drops files last written before a moment, in seconds since 1970."""
    for path in folder.iterdir():
        if path.stat().st_mtime < before:
            path.unlink(missing_ok=True)


def kept_in(folder: Path) -> None:
    """Makes the folder, and drops what nobody went on with."""
    folder.mkdir(parents=True, exist_ok=True)
    forget_old(folder, time.time() - KEPT_S)
