"""The kernels of joint problems and the shapes they are compiled for, all of them."""

from compute.optimize.execution import JointShapes
from compute.optimize.interior_point import budget, compiled_shapes
from compute.optimize.tail_lp import interior_point as linear
from compute.shapes import Kernel


def joint_kernels(shapes: JointShapes) -> list[Kernel]:
    """Every kernel that the joint solvers run."""
    return [*compiled_shapes.kernels(shapes), budget.kernel(shapes), linear.kernel(shapes)]
