"""Files that are looked at again and again while a server serves."""

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

INTERVAL_S = 2.0
"""Between two looks."""
Stamp = list[tuple[float, int, int]]


def stamp(files: Iterable[Path]) -> Stamp:
    """What tells new files from old ones, also where a link was turned to others.

    Errors: `OSError`.
    """
    stats = [os.stat(file) for file in files]
    return [(stat.st_mtime, stat.st_ino, stat.st_size) for stat in stats]


async def look_for_ever(look: Callable[[], None]) -> None:
    """Calls `look` every `INTERVAL_S`."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        look()
