"""Algorithms that misbehave, for tests: the parameter `mode` says how."""

import threading
import time

import numpy as np

VERSION = "7"
MODES = (
    "right",
    "raise",
    "short",
    "matrix",
    "text",
    "nan",
    "infinite",
    "huge",
    "other side",
    "exit",
    "write",
    "slow",
)
asked = {"n": 0}
release = threading.Event()


def size(columns, parameters, portfolio):
    """Does what `mode` says."""
    asked["n"] += 1
    mode = MODES[int(parameters.get("mode", 0))]
    n = len(columns["side"])
    right = 0.05 * columns["side"]
    if mode == "raise":
        raise RuntimeError("out of luck")
    if mode == "exit":
        raise SystemExit(3)
    if mode == "write":
        columns["side"][:] = 1.0
    if mode == "slow":
        release.wait(30.0)
    if mode == "short":
        return right[:-1]
    if mode == "matrix":
        return np.zeros((n, n))
    if mode == "text":
        return ["all"] * n
    first = {
        "nan": np.nan,
        "infinite": np.inf,
        "huge": 11.0,
        "other side": -0.05 * columns["side"][0],
    }
    if mode in first:
        right[0] = first[mode]
    return right


def echo(columns, parameters, portfolio):
    """Tells what it was told, as sizes: a column by its place, or a number of the portfolio."""
    from compute.algorithm import COLUMNS

    place = int(parameters["column"])
    value = np.nan_to_num(np.asarray(columns[COLUMNS[place]], dtype=float), nan=-1.0)
    return columns["side"] * np.abs(value) / 1e3


def sleepy(columns, parameters, portfolio):
    """Never twice the same."""
    return columns["side"] * (time.perf_counter() % 1.0)


def ordered(columns, parameters, portfolio):
    """Looks at the order of the lines."""
    return columns["side"] * np.arange(len(columns["side"])) / 1e6
