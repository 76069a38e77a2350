"""Joint sizing that is refused before it begins where it took longer than there is time.

Work by its size: what is sized and held, scenarios or bets, the objective. Two pieces of one size
have to be slow before a third is expected to be: one slow moment, such as the first call after a
start, refuses nobody. Each refusal takes something off what is expected: none is for ever.
"""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from compute.inputs import Inputs
from compute.optimize.execution import Runner
from compute.optimize.time_limit import OutOfTimeError, TimeLimit, TooLongError
from compute.waterfall.layout import Family, is_of
from server.joint.expected import FORGOTTEN, KEYS_MAX

T = TypeVar("T")
Size = tuple[object, ...]


class Foreseen:
    """A runner of joint work on inputs of a sizing, by another runner."""

    def __init__(self, joint: Runner) -> None:
        self._joint = joint
        self.errors = joint.errors
        self._last: OrderedDict[Size, tuple[float, float]] = OrderedDict()

    def run(self, work: Callable[..., T], *arguments: Any, time_limit: TimeLimit) -> T:
        """See `Runner`; raises `TooLongError` where work of this size took too long twice."""
        size = _size(work, arguments[0])
        last = self._last.get(size, (0.0, 0.0))
        try:
            time_limit.expect(min(last), f"{work.__name__} of this size")
        except TooLongError:
            self._keep(size, (FORGOTTEN * last[0], FORGOTTEN * last[1]))
            raise
        began = monotonic()
        try:
            result = self._joint.run(work, *arguments, time_limit=time_limit)
        except OutOfTimeError:  # so long at least
            self._keep(size, (last[1], monotonic() - began))
            raise
        self._keep(size, (last[1], monotonic() - began))
        return result

    def _keep(self, size: Size, seconds: tuple[float, float]) -> None:
        self._last[size] = seconds
        self._last.move_to_end(size)
        while len(self._last) > KEYS_MAX:
            self._last.popitem(last=False)


def _size(work: Callable[..., object], inputs: Inputs) -> Size:
    """What tells work that takes about as long from other work."""
    objective, returns = inputs.parameters.joint_objective, inputs.returns
    scenarios = 0 if returns.scenarios is None else len(returns.scenarios.probability)
    bets = int(is_of(inputs.signals.source[inputs.active], Family.BET).sum())
    held = int((inputs.limit_bounds.before != 0.0).sum())
    joint = inputs.limit_bounds.limits.joint
    limited = tuple(
        name
        for name in ("volatility_max", "var_max", "cvar_max", "cdar_max", "wealth_floor")
        if getattr(joint, name) is not None
    )
    kind = None if objective is None else objective.kind
    lines = int(inputs.active.sum())
    return (work.__name__, kind, limited, len(joint.tails), lines, held, bets, scenarios)
