"""Padded problems for programs that are compiled ahead: everything present, what is absent neutral.

The kernel skips what a problem's `Data` does not have, so each structure is a program of its own.
A slot has all of it: limits that are absent are infinite, costs and curvature zero, further names
fixed at zero, further scenarios without probability. The answer is that of the problem itself up
to rounding; the kernel's masks see to that (`kkt_system.present`). What is absent still costs
time, so a large book's commonest problem, growth over scenarios under linear limits and costs, has
a plain slot of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import numpy as np

from compute.optimize.execution import JointShapes
from compute.optimize.interior_point.canonicalize import Encoded
from compute.optimize.interior_point.kernel import interior_point, run
from compute.optimize.interior_point.output import Answer, unpack
from compute.optimize.interior_point.problem_data import Data, shape_of
from compute.optimize.objectives import UnsupportedError
from compute.optimize.problem import Array
from compute.shapes import Kernel, NotCompiledError

NEUTRAL: dict[str, float | tuple[float, ...]] = {
    "row_min": -math.inf,
    "row_max": math.inf,
    "row_scale": 1.0,
    "unit": 1.0,
    "finer": 1.0,
    "screened": 1.0,
    "price": math.inf,
    "price_tail": math.inf,
    "volatility": math.inf,
    "var": (0.0, math.inf),
    "exponent": (1.0, math.inf),
    "crra": (0.0, 1.0, 0.0),
    "turnover": math.inf,
    "gross": math.inf,
}
"""What a field holds where the problem has none; the others hold 0."""

SMOOTH, RATIO = "joint", "joint/ratio"


@dataclass(frozen=True)
class Slot:
    """A shape: names, linear limits, scenarios (0: no returns); for the Sharpe ratio or not.

    plain: without covariances, nonlinear and soft limits, and impact costs.
    """

    assets: int
    rows: int
    scenarios: int = 0
    ratio: bool = False
    plain: bool = False

    @property
    def kernel(self) -> str:
        """Name of its kernel in the registry."""
        return RATIO if self.ratio else SMOOTH

    @cached_property
    def layout(self) -> Data:
        """The shape of every field; None where the slot lacks it."""
        n, m, length = (self.assets,), (self.rows,), (self.scenarios,)
        names = ("lower", "upper", "linear", "holdings", "cost")
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names, n)
        shapes |= {"rows": m + n, "row_min": m, "row_max": m, "row_scale": m}
        shapes |= {"unit": (), "finer": (), "screened": (), "turnover": (), "gross": ()}
        if not self.plain:
            shapes |= {"mean": n, "impact": n, "quad": n + n, "cov": n + n, "price": m, "level": n}
            shapes |= {"var": (2,), "volatility": (), "price_tail": ()}
            shapes |= {"sharpe": ()} if self.ratio else {"budgets": n}
        if self.scenarios:
            shapes |= {
                "returns": n + length,
                "prob": length,
                "growth": (),
                "crra": (3,),
                "first": n,
            }
        if self.scenarios and not self.plain:
            shapes |= {"exponent": (2,), "floor_shift": n}
        fields: dict[str, Any] = {
            name: jax.ShapeDtypeStruct(shape, np.float64) for name, shape in shapes.items()
        }
        return Data(**fields)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the kernel's arguments: the fields in the order of `Data`, and the lag."""
        return (*(field.shape for field in self.layout if field is not None), ())

    @property
    def work(self) -> int:
        """Arithmetic of one iteration, roughly."""
        n = self.assets
        return n * n * (self.scenarios + n // 3 + 2 * self.rows)

    def holds(self, data: Data) -> bool:
        """True if the problem fits."""
        return all(
            given is None or (room is not None and all(np.less_equal(given.shape, room.shape)))
            for given, room in zip(data, self.layout, strict=True)
        )

    def padded(self, data: Data, lag: float) -> Array:
        """All arguments of the kernel, one after another."""
        buffer, at = np.zeros(sum(math.prod(shape) for shape in self.shapes)), 0
        for name, given, room in zip(Data._fields, data, self.layout, strict=True):
            if room is None:
                continue
            view = buffer[at : at + math.prod(room.shape)].reshape(room.shape)
            at += view.size
            if name in NEUTRAL:
                view[...] = NEUTRAL[name]
            if given is not None:
                view[tuple(slice(length) for length in np.shape(given))] = given
            elif name == "prob":
                view[0] = 1.0
        buffer[at] = lag
        return buffer


@lru_cache
def slots(shapes: JointShapes) -> tuple[Slot, ...]:
    """Every slot of a service, the cheapest first."""
    few, most = shapes.rows
    # Books of few names have few limits: with room for many, those would be most of the work. One
    # that has more goes to a wider slot, so the widest has room for most.
    wide = [(size, few if size <= few else most) for size in shapes.assets[:-1]]
    wide.append((shapes.assets[-1], most))
    # Rows cost little, except where there are many names.
    made = [Slot(*book) for book in (*wide, (shapes.assets[-1], few))]
    made += [Slot(*book, shapes.scenarios[0]) for book in wide]
    made += [Slot(shapes.assets[-1], few, shapes.scenarios[0], plain=True)]
    # Long histories are padded to the most names, or where they are of few (every outcome of a
    # dozen bets) to the next fewer: a sixteenth of the work.
    made += [Slot(*book, count) for book in wide[-2:] for count in shapes.scenarios[1:]]
    made += [Slot(*book, ratio=True) for book in wide]
    # A ratio needs scenarios only where drawdown risk is limited.
    made += [Slot(*wide[-1], shapes.scenarios[-1], ratio=True)]
    return tuple(sorted(made, key=lambda slot: slot.work))


def run_kernel(encoded: Encoded, lag: float) -> Answer:
    """The interior point's answer to a problem.

    Raises `NotCompiledError` where only programs of some shapes may run and it is larger than all,
    UnsupportedError where none of them has what it has.
    """
    data, programs = encoded.data, encoded.execution.programs
    if programs is None:
        return unpack(run(data, lag), shape_of(data), encoded.shape)
    slot = next((slot for slot in slots(programs.shapes) if slot.holds(data)), None)
    if slot is None:
        raise _refusal(programs.shapes, data)
    vector = programs.registry.run_packed(slot.kernel, slot.shapes, slot.padded(data, lag))
    return unpack(vector, (slot.assets, slot.rows), encoded.shape)


def _refusal(shapes: JointShapes, data: Data) -> Exception:
    (m, n), periods = data.rows.shape, 0 if data.returns is None else data.returns.shape[1]
    largest = (shapes.assets[-1], shapes.rows[-1], shapes.scenarios[-1])
    if all(a <= b for a, b in zip((n, m, periods), largest, strict=True)):
        return UnsupportedError("the quadratic form of a drawdown-risk limit has no program")
    asked = f"{n} instruments, {m} linear limits and {periods} scenarios"
    room = f"{largest[0]}, {largest[1]} and {largest[2]}"
    return NotCompiledError(f"{asked} are more than this server is set up for: {room}")


def kernels(shapes: JointShapes) -> list[Kernel]:
    """The interior point for every slot."""
    made = slots(shapes)
    return [
        Kernel(
            name,
            _on_arrays([slot for slot in made if slot.kernel == name]),
            tuple(slot.shapes for slot in made if slot.kernel == name),
        )
        for name in (SMOOTH, RATIO)
    ]


def _on_arrays(family: list[Slot]) -> Callable[..., jax.Array]:
    """The kernel with the fields as arguments; their shapes say which slot they are of."""
    fields = {
        slot.shapes: [n for n, x in zip(Data._fields, slot.layout, strict=True) if x is not None]
        for slot in family
    }

    def solve(*arrays: jax.Array) -> jax.Array:
        names = fields[tuple(array.shape for array in arrays)]
        data = Data(**dict(zip(names, arrays[:-1], strict=True)))
        # Screened on the host: what a book of this size gains is not worth compiling it.
        return interior_point(data, arrays[-1], screening=False)

    return solve
