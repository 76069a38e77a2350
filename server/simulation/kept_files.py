"""Files of arrays that long work keeps until its answer is there, named by all they depend on.

    digest = digest_of(setting=b"...")      path = folder / f"{digest.hexdigest()}.npz"
    write(path, arrays)                     read(path): the same arrays, or None

A file is whole or not there. What nobody went on with is dropped after `KEPT_S`.
"""

import functools
import hashlib
import os
import time
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import compute

KEPT_S = 7 * 86400.0

Arrays = Mapping[str, NDArray[Any]]


def versions() -> dict[str, str]:
    """What has to be the same wherever work is done for its results to be."""
    found = {name: version(name) for name in ("position-sizing", "jax", "jaxlib", "numpy")}
    return {**found, "code": _code()}


@functools.cache
def _code() -> str:
    """SHA-256 of the sources of `compute`: a version may have seen other ones."""
    folder, digest = Path(compute.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def digest_of(*told: object) -> Any:
    """SHA-256 of the versions and of what is told by its `repr`, to be added to."""
    return hashlib.sha256(repr((sorted(versions().items()), *told)).encode())


def add(digest: Any, arrays: Mapping[str, Any]) -> None:
    """Adds arrays with their names and shapes."""
    for name, array in arrays.items():
        values = np.ascontiguousarray(array)
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())


def write(path: Path, arrays: Arrays) -> None:
    """Writes arrays: all, or none."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    part.replace(path)


def read(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file; None where it is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
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
