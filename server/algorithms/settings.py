"""The file that names custom sizing algorithms, a table each.

[inverse-volatility]
entry_point = "inverse_volatility:size"        # trusted Python code, in this process
folder = "."                                   # where it is, from this file; else installed
sha256 = "9f86..."                             # `sizing algorithm hash` prints it

[root-kelly]
address = "unix:/run/sizing/root_kelly.sock"   # any program, over gRPC; or 127.0.0.1:PORT

[fraction-kelly]
wasm = "fraction_kelly.wasm"                   # a module without imports; or its text, .wat
sha256 = "5f3c..."                             # of that file
version = "1.0"
numbers = ["kelly_fraction", "most"]           # what it is told of the parameters
"""

import re
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from compute.algorithm import AlgorithmTier
from server.hosts import is_loopback

_NAME = re.compile(r"[A-Za-z0-9._:\-]{1,64}")
_ENTRY_POINT = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
ALGORITHMS_MAX = 64


class AlgorithmSettings(BaseModel):
    """One algorithm: Python code, a program of its own (`address`), or WebAssembly."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry_point: str | None = Field(None, pattern=_ENTRY_POINT)
    """MODULE:FUNCTION of trusted Python code."""
    folder: Path | None = None
    """Where its first module is, from the file of settings; unset: installed, on the path."""
    address: str | None = None
    """unix:/PATH, or HOST:PORT on loopback, where a program serves `SizingAlgorithmService`."""
    wasm: Path | None = None
    """WebAssembly, binary or text, from the file of settings (`wasm.py` has what it exports)."""
    numbers: tuple[str, ...] = Field((), max_length=64)
    """Of a module: the parameters it is told, in this order."""
    fuel: int = Field(100_000_000, ge=1, le=10**12)
    """Of a module: instructions for one answer, about."""
    memory_mb: int = Field(64, ge=1, le=1024)
    """Of a module: memory for one answer."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Of the code, required with `entry_point` and `wasm`. Of a program: what it must say it is."""
    version: str | None = Field(None, min_length=1, max_length=128)
    """The version it must say; unset: any. Of a module: the version it is, required."""
    deadline_ms: float = Field(250.0, gt=0, le=10_000)
    """Longest time for one answer."""
    weight_max: float = Field(10.0, gt=0, le=4096)
    """Largest size accepted, as a fraction of equity; limits apply to what is accepted."""
    in_flight_max: int = Field(4, ge=1, le=64)
    """Questions at once; more wait for their turn."""

    @model_validator(mode="after")
    def _one_place(self) -> "AlgorithmSettings":
        if sum(place is not None for place in (self.entry_point, self.address, self.wasm)) != 1:
            raise ValueError("give entry_point, address or wasm")
        if self.wasm is not None and (self.sha256 is None or self.version is None):
            raise ValueError("wasm needs sha256 (of the file) and version")
        if self.entry_point is not None and self.sha256 is None:
            raise ValueError("entry_point needs sha256: `sizing algorithm hash` prints it")
        if self.address is not None and not _is_local(self.address):
            raise ValueError("address must be unix:/PATH or HOST:PORT on loopback")
        if self.entry_point is None and self.folder is not None:
            raise ValueError("folder is for entry_point")
        return self

    @property
    def tier(self) -> AlgorithmTier:
        """Where it runs."""
        if self.entry_point is not None:
            return AlgorithmTier.PYTHON
        return AlgorithmTier.WASM if self.wasm is not None else AlgorithmTier.PROCESS


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return address.removeprefix("unix:").startswith("/")
    host, colon, port = address.rpartition(":")
    return bool(colon) and port.isdecimal() and is_loopback(host)


def load(path: Path | None) -> dict[str, AlgorithmSettings]:
    """The algorithms of a file, by name; none without one. Raises `ValueError`."""
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if len(tables) > ALGORITHMS_MAX:
        raise ValueError(f"{path}: has {len(tables)} algorithms; at most {ALGORITHMS_MAX}")
    try:
        found = TypeAdapter(dict[str, AlgorithmSettings]).validate_python(tables)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where}: {first['msg']}") from error
    for name in found:
        if not _NAME.fullmatch(name):
            text = "a name is 1 to 64 characters of A-Z a-z 0-9 . _ : -"
            raise ValueError(f"{path}: {name[:70]!r}: {text}")
    return {name: _placed(item, path.parent) for name, item in found.items()}


def _placed(item: AlgorithmSettings, base: Path) -> AlgorithmSettings:
    given = {"folder": item.folder, "wasm": item.wasm}
    placed = {name: (base / path).resolve() for name, path in given.items() if path is not None}
    return item.model_copy(update=placed)
