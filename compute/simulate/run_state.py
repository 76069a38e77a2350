"""What a backtest carries from one session to the next: it can be kept, and gone on with later.

    arrays = arrays_of(state)        state_of(arrays) == state, bit for bit

All else that a session is computed from is in the history and the setting; neither a random number
nor a clock is in it.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.limits.policy import LimitKind
from compute.market import Floats
from compute.simulate.account import Account
from compute.waterfall.layout import Stage

_NUMBERS = "numbers"


@dataclass
class RunState:
    """One setting on its way through T sessions of m instruments; `session` comes next.

    orders: decided and not filled yet, units (m,). equity, cash, gross_weight, turnover: of the
    sessions before, (T,), 0 from `session` on; units: held at each close, (T, m), or None where
    they are not kept. stage_growth: see `Backtest`. highest: equity so far. is_reducing: no
    position may grow after the loss of a day; reducing: decisions made so. ruined: the session
    with nothing left, which is the last.
    """

    account: Account
    orders: Floats
    equity: Floats
    cash: Floats
    gross_weight: Floats
    turnover: Floats
    stage_growth: Floats
    highest: float
    units: Floats | None = None
    session: int = 0
    trades: int = 0
    decisions: int = 0
    scaled_fills: int = 0
    reducing: int = 0
    is_reducing: bool = False
    ruined: int | None = None
    refused: Counter[str] = field(default_factory=Counter)
    refused_lines: Counter[str] = field(default_factory=Counter)
    bindings: Counter[LimitKind] = field(default_factory=Counter)

    @classmethod
    def at_start(cls, cash: float, shape: tuple[int, int], *, keeps_units: bool) -> "RunState":
        """Before the first session, of a history of that shape, (T, m)."""
        sessions, m = shape
        return cls(
            account=Account(cash, np.zeros(m)),
            orders=np.zeros(m),
            equity=np.zeros(sessions),
            cash=np.zeros(sessions),
            gross_weight=np.zeros(sessions),
            turnover=np.zeros(sessions),
            stage_growth=np.zeros(len(Stage) + 1),
            highest=cash,
            units=np.zeros(shape) if keeps_units else None,
        )

    @property
    def is_over(self) -> bool:
        """Whether no session is left to go on with."""
        return self.ruined is not None or self.session == len(self.equity)


def arrays_of(state: RunState) -> dict[str, NDArray[Any]]:
    """Everything in it as arrays by name; numbers and counts are JSON in one of bytes."""
    flat = {item.name: getattr(state, item.name) for item in fields(state)}
    account = flat.pop("account")
    flat |= {f"account.{name}": value for name, value in vars(account).items()}
    arrays = {name: value for name, value in flat.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in flat.items() if name not in arrays}
    arrays[_NUMBERS] = np.frombuffer(json.dumps(rest).encode(), dtype=np.uint8)
    return arrays


def state_of(arrays: Mapping[str, NDArray[Any]]) -> RunState:
    """From `arrays_of`. Raises `KeyError`, `TypeError` or `ValueError` for what it has not made."""
    values: dict[str, Any] = {name: arrays[name] for name in arrays if name != _NUMBERS}
    values |= json.loads(arrays[_NUMBERS].tobytes())
    own = {name: values.pop(name) for name in list(values) if name.startswith("account.")}
    account = Account(**{name.removeprefix("account."): value for name, value in own.items()})
    for name in ("refused", "refused_lines"):
        values[name] = Counter(values[name])
    bindings = values.pop("bindings")
    values["bindings"] = Counter({LimitKind(int(key)): count for key, count in bindings.items()})
    return RunState(account=account, **values)
