"""Trusted Python code as an algorithm: loaded by name and hash, run in a thread of its own.

    VERSION = "1.0"

    def size(columns, parameters, portfolio):
        "What it does."
        return 0.5 * columns["kelly"]

`columns` maps the names of `LineColumns` to read-only arrays, and "instrument_ids" to a tuple;
`parameters` maps names to numbers; `portfolio` is a `compute.algorithm.AlgorithmPortfolio`.

In-process Python is no sandbox: the hash says which code it is, not what that may do. Code that
never returns keeps its thread and its turn; when all turns are taken, it is asked no more.
"""

import asyncio
import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from compute.algorithm import AlgorithmInput
from server.algorithms.asked import AlgorithmError, Description, Reply
from server.algorithms.settings import AlgorithmSettings

_LENGTH_MAX = 300
_SKIPPED = "__pycache__"


def code_hash(entry_point: str, folder: Path | None) -> str:
    """SHA-256, in hex, over the files of the first module or package that an entry point names.

    Names and contents count, caches of byte code don't. Raises `ValueError` where there is none.
    """
    spec = _found(entry_point, folder)
    digest = hashlib.sha256()
    for name, path in _files(spec):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _found(entry_point: str, folder: Path | None) -> ModuleSpec:
    first = entry_point.partition(":")[0].partition(".")[0]
    spec = PathFinder.find_spec(first, None if folder is None else [str(folder)])
    if spec is None or spec.origin is None:
        where = "on the path" if folder is None else f"in {folder}"
        raise ValueError(f"there is no module {first!r} {where}")
    return spec


def _files(spec: ModuleSpec) -> list[tuple[str, Path]]:
    assert spec.origin is not None, "a module has a file"
    if spec.submodule_search_locations is None:
        path = Path(spec.origin)
        return [(path.name, path)]
    root = Path(spec.submodule_search_locations[0])
    paths = (path for path in root.rglob("*") if path.is_file() and _SKIPPED not in path.parts)
    return sorted((str(path.relative_to(root).as_posix()), path) for path in paths)


class TrustedAlgorithm:
    """A function of trusted code."""

    def __init__(self, function: Callable[..., Any], description: Description) -> None:
        self._function = function
        self._description = description

    @classmethod
    def loaded(cls, settings: AlgorithmSettings) -> "TrustedAlgorithm":
        """Imports the code that the settings pin. Raises `ValueError`: another, or broken."""
        assert settings.entry_point is not None, "the settings of Python code"
        found = code_hash(settings.entry_point, settings.folder)
        if found != settings.sha256:
            raise ValueError(f"the code of {settings.entry_point} has the SHA-256 {found}: not it")
        module_name, _, name = settings.entry_point.partition(":")
        module = _imported(module_name, _found(settings.entry_point, settings.folder))
        function, version = getattr(module, name, None), getattr(module, "VERSION", None)
        if not callable(function):
            raise ValueError(f"{module_name} has no function {name!r}")
        if not isinstance(version, str) or not version:
            raise ValueError(f"{module_name} has no VERSION, a text that says which one it is")
        if settings.version not in (None, version):
            raise ValueError(f"{module_name} is version {version}, not {settings.version}")
        text = (function.__doc__ or "").strip().partition("\n")[0]
        return cls(function, Description(version, found, text[:_LENGTH_MAX]))

    async def describe(self, deadline_s: float) -> Description:
        """See `Algorithm`."""
        del deadline_s
        return self._description

    async def size(
        self, question: AlgorithmInput, deadline_s: float, done: Callable[[], None]
    ) -> Reply:
        """See `Algorithm`."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()

        def finish(value: Any, error: Exception | None) -> None:
            done()
            if answered.done():  # too late
                return
            if error is None:
                answered.set_result(value)
            else:
                answered.set_exception(error)

        def work() -> None:
            value, error = None, None
            try:
                value = np.array(self._function(*_arguments(question)), dtype=np.float64)
            except BaseException as raised:  # it must not take its turn with it
                text = f"it raised {type(raised).__name__}: {raised}"
                error = AlgorithmError("ERROR", text[:_LENGTH_MAX])
            try:
                loop.call_soon_threadsafe(finish, value, error)
            except RuntimeError:  # the loop has closed: nobody waits
                return

        threading.Thread(target=work, name="sizing algorithm", daemon=True).start()
        try:
            async with asyncio.timeout(deadline_s):
                weight = await answered
        except TimeoutError as error:
            text = f"no answer within {1000 * deadline_s:.0f} ms"
            raise AlgorithmError("TIMEOUT", text) from error
        return Reply(weight, self._description.version, self._description.sha256)

    async def close(self) -> None:
        """See `Algorithm`."""


def _arguments(question: AlgorithmInput) -> tuple[Mapping[str, Any], Mapping[str, float], object]:
    columns: dict[str, Any] = {"instrument_ids": question.instrument_ids}
    for name, column in question.columns.items():
        columns[name] = column.copy()
        columns[name].flags.writeable = False
    return (
        MappingProxyType(columns),
        MappingProxyType(dict(question.parameters)),
        question.portfolio,
    )


def _imported(name: str, spec: ModuleSpec) -> Any:
    """The module, from where its hash was taken. Raises `ValueError`."""
    first = name.partition(".")[0]
    known = sys.modules.get(first)
    if known is not None and getattr(known, "__file__", None) != spec.origin:
        raise ValueError(f"another module named {first!r} is loaded already")
    try:
        if known is None:
            module = importlib.util.module_from_spec(spec)
            sys.modules[first] = module
            assert spec.loader is not None, "a module has a loader"
            spec.loader.exec_module(module)
        return importlib.import_module(name)
    except Exception as error:
        if known is None:
            sys.modules.pop(first, None)
        raise ValueError(f"{name} can't be imported: {type(error).__name__}: {error}") from error
