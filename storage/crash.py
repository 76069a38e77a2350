"""Marked points of the write path at which a test can have the process killed.

With `SIZING_CRASH_POINT=before_commit` the process dies at that point as by `kill -9`: no clean-up,
no flushed buffers. With `before_commit:3` it dies the third time it comes by. Unset: nothing.
"""

import os
import signal

VARIABLE = "SIZING_CRASH_POINT"

CALL_POINTS = (
    "compute",
    "claim",
    "before_commit",
    "after_commit",
    "relay.before_send",
    "relay.after_send",
    "relay.before_delete",
)
"""From a call to the broker's acknowledgement of its event."""
INTAKE_POINTS = ("intake.before_handle", "intake.before_acknowledge")
"""On the way of a message from a topic."""
POINTS = CALL_POINTS + INTAKE_POINTS

_visits: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Kill this process if the environment names this point; `name` is one of `POINTS`."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    point, _, count = wanted.partition(":")
    if point not in POINTS:
        raise ValueError(f"{VARIABLE} names {point!r}, which is none of {', '.join(POINTS)}")
    if point != name:
        return
    _visits[name] = _visits.get(name, 0) + 1
    if _visits[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
