"""What one decision depends on, in arrays: the input of the pipeline and of what explains it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.book import Floats, Integers
from compute.edges import Scenarios
from compute.limits.sheet import Sheet
from compute.parameters import EffectiveParameters
from compute.signals import Signals


@dataclass(frozen=True)
class Inputs:
    """All that a decision depends on.

    index: each line's instrument in the market, (n,), 0 where it isn't `known`. active: false for
    refused lines, unknown instruments among them.
    target: signed weights of the joint optimum, or None for the closed form.
    """

    signals: Signals
    index: Integers
    active: NDArray[np.bool_]
    known: NDArray[np.bool_]
    sheet: Sheet
    parameters: EffectiveParameters
    reducing: bool = False
    scenarios: Scenarios | None = None
    target: Floats | None = None
