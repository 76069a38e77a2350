"""The rules of the house that a reader counts on: the arrow, the size of files, documentation."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("compute", "server", "storage")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LINES_MAX = 400


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """First names of all that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 50


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_arrow_points_one_way(path: Path) -> None:
    """server -> compute, server -> storage; no mathematics knows of protocols, files or tasks."""
    forbidden = {
        "compute": {"server", "storage", "positionsizing", "google", "grpc", "asyncio", "asyncpg",
                    "pulsar", "structlog", "logging", "socket", "os"},
        "storage": {"server", "compute", "positionsizing", "grpc", "jax"},
        "server": {"asyncpg"} if path.parent.name in ("convert",) else set(),
    }  # fmt: skip
    package = path.relative_to(ROOT).parts[0]
    assert not imported(path) & forbidden[package]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_stay_readable(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LINES_MAX, f"{len(lines)} lines"


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """Public functions and methods of public classes."""
    owners: list[tuple[str, ast.Module | ast.ClassDef]] = [("", tree)]
    owners += [
        (f"{node.name}.", node)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    for prefix, owner in owners:
        for node in owner.body:
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and not node.name.startswith("_"):
                yield prefix + node.name, node


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_is_documented_and_typed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module says what it is about"
    wanting = []
    for name, node in public_functions(tree):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        untyped = [
            a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")
        ]
        if untyped or node.returns is None:
            wanting.append(f"{name}: not fully typed {untyped}")
        if not ast.get_docstring(node):
            wanting.append(f"{name}: no docstring")
    assert not wanting


OPTIMIZE = ROOT / "compute" / "optimize"
# What states a problem, read by solvers and proof alike.
STATEMENT = {"problem", "measures", "implied_bounds", "linear_program", "time_limit"}
SOLVERS = {
    "interior_point",
    "tail_lp",
    "cutting_planes",
    "presolve",
    "limits",
    "objectives",
    "expanding_box",
    "warm_start",
    "execution",
    "kernels",
    "threads",
}


def parts_of_optimize(path: Path) -> set[str]:
    """First names below compute.optimize that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "compute.optimize":
            modules = [f"compute.optimize.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        else:
            continue
        found |= {name.split(".")[2] for name in modules if name.startswith("compute.optimize.")}
    return found


def modules_of(parts: set[str]) -> list[Path]:
    files = [OPTIMIZE / f"{part}.py" for part in sorted(parts)]
    files += [path for part in sorted(parts) for path in sorted((OPTIMIZE / part).glob("*.py"))]
    return [path for path in files if path.exists()]


@pytest.mark.parametrize("path", modules_of({"proof"}), ids=name_of)
def test_the_proof_knows_the_statement_of_a_problem_and_no_solver(path: Path) -> None:
    assert parts_of_optimize(path) <= STATEMENT | {"proof"}


@pytest.mark.parametrize("path", modules_of(SOLVERS), ids=name_of)
def test_no_solver_knows_the_proof(path: Path) -> None:
    assert parts_of_optimize(path) <= STATEMENT | SOLVERS


@pytest.mark.parametrize("path", modules_of(STATEMENT), ids=name_of)
def test_the_statement_of_a_problem_knows_neither(path: Path) -> None:
    assert parts_of_optimize(path) <= STATEMENT
