"""One thread for the BLAS behind jaxlib's factorisations.

XLA runs kernels on its own threads and calls SciPy's OpenBLAS from them. With a second pool of
spinning threads on the same cores a Cholesky of size 500 takes 50 times longer than with none.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import scipy


def use_one_thread() -> bool:
    """Tell SciPy's bundled OpenBLAS to use one thread; False where it is another library."""
    for folder in (Path(scipy.__file__).parent.parent / "scipy.libs", Path(scipy.__file__).parent):
        for library in sorted(folder.glob("*openblas*.so*")):
            setter = getattr(ctypes.CDLL(str(library)), "scipy_openblas_set_num_threads", None)
            if setter is not None:
                setter(ctypes.c_int(1))
                return True
    return False
