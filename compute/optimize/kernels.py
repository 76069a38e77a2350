"""The kernels of joint problems and the shapes they are compiled for, all of them."""

from compute.optimize.ahead import JointShapes
from compute.optimize.solver import budget, slots
from compute.optimize.tail import interior as linear
from compute.shapes import Kernel


def joint_kernels(shapes: JointShapes) -> list[Kernel]:
    """Every kernel that the joint solvers run."""
    return [*slots.kernels(shapes), budget.kernel(shapes), linear.kernel(shapes)]
