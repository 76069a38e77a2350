"""Compiled programs as files, so that a start loads them without tracing or compiling.

A file is named by a digest of all that its machine code depends on: versions of jax and jaxlib, the
features of the processor, the source of the compute core, the kernel's name, options and shapes.
Programs are unpickled, which runs what a file says: so the folder must belong to the user of this
process and be closed to everybody else (0700), and nothing is read from any other.
"""

import contextlib
import hashlib
import os
import pickle
import platform
import stat
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import jax
import jaxlib.version
import numpy as np
import structlog
from jax.experimental import serialize_executable
from jax.stages import Lowered
from jaxlib import lapack

import compute
from compute.shapes import Kernel, Program, Shapes

_log = structlog.get_logger(__name__)

UNUSED_MAX_S = 30 * 24 * 3600.0
"""Files that nobody has loaded for so long are removed: other versions, other shapes."""


class ProgramStore:
    """A folder of programs. Raises `PermissionError` where others could write to it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise PermissionError(
                f"{folder} belongs to another user; programs are not read from it"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
        self.folder = folder

    def path(self, kernel: Kernel, shapes: Shapes) -> Path:
        """Where the program is, or will be."""
        facts = (*_environment(), kernel.name, str(kernel.uses_fusion_emitters), repr(shapes))
        digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]
        return self.folder / f"{kernel.name.replace('/', '-')}-{digest}"

    def has(self, kernel: Kernel, shapes: Shapes) -> bool:
        """Whether the program is there."""
        return self.path(kernel, shapes).exists()

    def load(self, kernel: Kernel, shapes: Shapes) -> Program | None:
        """The program, None where it isn't there or can't be used; then its file is removed."""
        path = self.path(kernel, shapes)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            _prepare_lapack()
            program: Program = serialize_executable.deserialize_and_load(*pickle.loads(content))
        except Exception as error:  # of any library on the way: it is compiled again
            _log.warning("a kept program is damaged", path=str(path), error=str(error)[:200])
            path.write_bytes(b"")  # its other name is the same file
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return program

    def save(self, kernel: Kernel, shapes: Shapes, traced: Lowered, program: Program) -> None:
        """Writes a program; readers see all of it or nothing.

        It must have been compiled here: what jax reads from a cache of its own lacks functions
        when it is written again.
        """
        content = pickle.dumps(serialize_executable.serialize(program))
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            file.write(content)
        same = self._same(kernel, traced)
        Path(file.name).replace(same)
        self._link(same, self.path(kernel, shapes))

    def reuse(self, kernel: Kernel, shapes: Shapes, traced: Lowered) -> bool:
        """Takes a program that was compiled from the same operations, if there is one.

        Most changes of the source leave most kernels as they are.
        """
        same = self._same(kernel, traced)
        if not same.exists() or not same.stat().st_size:
            return False
        self._link(same, self.path(kernel, shapes))
        return True

    def _same(self, kernel: Kernel, traced: Lowered) -> Path:
        """Where the program of these operations is, whatever the source."""
        facts = (*_environment()[:-1], str(kernel.uses_fusion_emitters), traced.as_text())
        return self.folder / f"same-{hashlib.sha256(chr(0).join(facts).encode()).hexdigest()[:32]}"

    def _link(self, same: Path, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            os.link(same, path)

    def prune(self) -> None:
        """Removes what nobody has loaded for long."""
        oldest = time.time() - UNUSED_MAX_S
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < oldest:
                    path.unlink()


@lru_cache(maxsize=1)
def _prepare_lapack() -> None:
    """Fills in the addresses of LAPACK, which jax does where it traces a program that calls it.

    A program that is loaded without being traced would jump to address 0.
    """
    lapack.prepare_lapack_call("potrf_ffi", np.dtype(np.float64))


@lru_cache(maxsize=1)
def _environment() -> tuple[str, ...]:
    """What every program depends on beside its kernel and shapes."""
    source = hashlib.sha256()
    root = Path(compute.__file__).parent
    for path in sorted(root.rglob("*.py")):
        source.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return (jax.__version__, jaxlib.version.__version__, _processor(), source.hexdigest())


def _processor() -> str:
    """The features of the processor, which machine code is made for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
