"""Whose processes PostgreSQL's are where this process is root's, which PostgreSQL refuses.

They run as `postgres` or `nobody`. That user often can't enter the folders that the programs or the
data are in (a checkout below /root, a folder of `mktemp -d`). Where Linux lets root give it away,
the right to pass closed folders (CAP_DAC_OVERRIDE) then goes with the programs; elsewhere the first
closed folder is named together with what helps.
"""

import functools
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import StorageError

_NAMES = ("postgres", "nobody")


@dataclass(frozen=True)
class RunAs:
    """How to start a program: words before its own, and arguments of `subprocess.run`."""

    prefix: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def run(self, command: Sequence[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """`subprocess.run` with the identity; the exit code is the caller's to look at."""
        return subprocess.run(
            [*self.prefix, *command], check=False, text=True, **dict(self.options), **kwargs
        )

    def enters(self, path: Path) -> bool:
        """Whether a program started like this can enter a folder, or execute a file."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # The shell's own `test` asks the kernel as the program itself will.
        return (
            self.run(["sh", "-c", 'test -x "$1"', "sh", str(path)], cwd="/", **quiet).returncode
            == 0
        )


def server_user() -> pwd.struct_passwd | None:
    """The user the server runs as when this process is root, else None: the same user."""
    if os.geteuid() != 0:
        return None
    for name in _NAMES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StorageError("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


@functools.cache
def run_as(*needed: Path) -> RunAs:
    """The identity for programs that have to enter the folders, or execute the files, `needed`.

    Errors: `StorageError` naming the folder that stays closed, and what to do about it.
    """
    user = server_user()
    if user is None:
        return RunAs()
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
    plain = RunAs(options=tuple(identity.items()))
    if all(map(plain.enters, needed)):
        return plain
    passing = RunAs(prefix=_passing_closed_folders(user))
    if shutil.which("setpriv") and all(map(passing.enters, needed)):
        return passing
    raise StorageError(_closed(plain, user.pw_name, needed))


def _passing_closed_folders(user: pwd.struct_passwd) -> tuple[str, ...]:
    """Leave root, keep the one capability, and let `access` count it.

    Without `no_setuid_fixup` the kernel forgets capabilities in access(2), by which initdb and
    pg_ctl look for the server beside them.
    """
    identity = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    capability = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return ("setpriv", "--securebits=+no_setuid_fixup", *identity, *capability)


def _closed(plain: RunAs, name: str, needed: Sequence[Path]) -> str:
    steps = (step for path in needed for step in (*reversed(path.parents), path))
    closed = next(step for step in steps if not plain.enters(step))
    return (
        f"PostgreSQL refuses to run as root, and user {name} can't enter {closed}: "
        f"run `chmod o+x {closed}`, or work as an ordinary user, or move checkout and data folder "
        "(SIZING_DATA_DIR) where all can enter, or name a server of your own by SIZING_DSN"
    )
