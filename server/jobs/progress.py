"""How far long work is, told by its process to the server that began it."""

import os

VARIABLE = "SIZING_PROGRESS_FD"
"""Names the descriptor that parts done are written to, a line each; unset where nobody asks."""
STEP = 0.01
"""Smaller steps are not told."""


class Progress:
    """Tells the part of the work that is done, from 0 to 1."""

    def __init__(self) -> None:
        descriptor = os.environ.get(VARIABLE)
        self._descriptor = None if descriptor is None else int(descriptor)
        self._told = 0.0

    def tell(self, part: float) -> None:
        """Parts that are not larger by `STEP` are passed over."""
        if self._descriptor is None or part < self._told + STEP:
            return
        self._told = part
        try:
            os.write(self._descriptor, f"{part:.4f}\n".encode())
        except OSError:  # nobody listens any more
            self._descriptor = None
