"""Compiled programs on disk, so that a start neither compiles nor traces what an earlier one did.

A file holds what XLA made of one kernel for one shape. Its name is a digest of all that went into
it: the source of `compute`, the versions of JAX and its compiler, their flags, the processor.
Whoever can write to the folder can run code in the service: it is the service's own (mode 700).
"""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax
import structlog
from jax.experimental import serialize_executable

import compute
from compute.shapes import Kernel, Program, Shapes, compiled

_log = structlog.get_logger(__name__)

_ARGUMENTS = jax.tree.structure(((0.0,), {}))
_RESULT = jax.tree.structure(0.0)
"""Every program takes one array and returns one."""


class KeptPrograms:
    """Programs for `KernelRegistry.compile`: reads those it has, compiles and writes others."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._origin = _origin()

    def __call__(self, kernel: Kernel, shapes: Shapes) -> Program:
        """The program of a kernel for one shape. What can't be read is compiled again."""
        made_of = f"{self._origin} {kernel.name} {shapes}"
        file = self._folder / f"{hashlib.sha256(made_of.encode()).hexdigest()[:32]}.program"
        if (program := _read(file)) is None:
            program = compiled(kernel, shapes)
            _write(file, program)
        return program


def _read(file: Path) -> Program | None:
    try:
        blob = file.read_bytes()
    except OSError:
        return None
    try:
        return serialize_executable.deserialize_and_load(blob, _ARGUMENTS, _RESULT)
    except Exception as error:  # whatever is wrong with a file, its program can be made again
        _log.warning("compiled program not readable", file=str(file), error=str(error))
        return None


def _write(file: Path, program: Program) -> None:
    """Beside its place, then renamed: a file that is there is complete."""
    unfinished = file.with_suffix(f".{os.getpid()}")
    try:
        unfinished.write_bytes(serialize_executable.serialize(program)[0])
        unfinished.replace(file)
    except OSError as error:
        _log.warning("compiled program not kept", file=str(file), error=str(error))


def _origin() -> str:
    """All that programs depend on besides their kernel's name and shape."""
    digest = hashlib.sha256()
    root = Path(compute.__file__).parent
    for source in sorted(root.rglob("*.py")):
        digest.update(str(source.relative_to(root)).encode() + source.read_bytes())
    parts = [jax.__version__, version("jaxlib"), jax.devices()[0].client.platform_version]
    parts += [platform.machine(), _processor()]
    parts += [
        f"{name}={os.environ[name]}" for name in ("XLA_FLAGS", "PJRT_NPROC") if name in os.environ
    ]
    digest.update("\n".join(parts).encode())
    return digest.hexdigest()


def _processor() -> str:
    """What the processor can do, as Linux tells it; elsewhere its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    )
