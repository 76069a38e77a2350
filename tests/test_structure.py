"""The rules of the house that a reader counts on: the arrow, the size of files, documentation."""

import ast
import re
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


def test_the_map_of_the_house_names_every_folder() -> None:
    page = (ROOT / "docs/architecture.md").read_text().split("## One request to")[0]
    for package in PACKAGES:
        folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        section = re.split(r"\n`(?=\w+/`)", page.split(f"\n`{package}/`")[1])[0]
        assert folders <= set(re.findall(r"`([a-z]+)`", section)), package
    files = re.findall(r"`((?:server|compute|storage)/[a-z_/]+\.(?:py|sql))`", page)
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("package", ["compute", "server"])
def test_the_map_of_the_house_says_where_to_start_in_each_folder(package: str) -> None:
    page = (ROOT / "docs/architecture.md").read_text().split(f"\n`{package}/`")[1]
    section = re.split(r"\n`(?=\w+/`)", page)[0]
    rows = re.findall(r"^\|(.+)\|.+\|(.*)\|$", section, re.MULTILINE)[2:]
    assert len(rows) > 5
    for row in rows:
        folders, files = (re.findall(r"`([a-z_/]+(?:\.py)?)`", cell) for cell in row)
        found = [
            [folder for folder in folders if (ROOT / package / folder / name).exists()]
            for name in files
        ]
        assert all(found), row
        assert {name for names in found for name in names} == set(folders), row


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
STATEMENT = {
    "problem",
    "measures",
    "implied_bounds",
    "risk_box",
    "linear_program",
    "time_limit",
}
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


MESSAGES = {"positionsizing", "google", "grpc_health"}
# Where calls come in and answers go out: messages are read, checked and written here.
BORDER = ("convert", "services", "cli", "gateway", "auth")
RPC_LAYER = {
    "algorithms/process",  # asks an algorithm over gRPC
    "calls/contract",
    "calls/errors",
    "calls/health",
    "calls/listening",  # health
    "calls/reading",
    "calls/rpc",
    "client",
    "messaging/ingest",  # events that come in
}
# What methods do that is more than their service has room for: messages in, messages out. None of
# it is on the way of a sizing.
METHODS = {
    "analytics/analysis",
    "analytics/attribution",
    "analytics/decision_analysis",
    "analytics/return_forecasts",
    "analytics/settled",
    "analytics/sizing_analytics",
    "analytics/strategy_comparison",
    "decisions/combine",
    "decisions/compare",
    "decisions/decision_what_if",
    "decisions/ladder",
    "decisions/recorded",
    "decisions/replay",
    "decisions/shocks",
    "decisions/what_if",
    "jobs/worker",
    "joint/work",
    "learning/feature_join",
    "learning/model_evidence",
    "learning/model_schedules",
    "learning/model_versions",
    "learning/schedule_features",
    "learning/schedule_work",
    "learning/training",
    "maintenance/archive",
    "market/action_plans",
    "market/corporate_actions",
    "market/price_adjustment",
    "market/trade_changes",
    "parameters/parameter_approval",
    "portfolios/books",
    "portfolios/cash_adjustment",
    "portfolios/currencies",
    "portfolios/day_loss",
    "portfolios/fills",
    "portfolios/four_eyes",
    "portfolios/high_water_mark",
    "portfolios/told",
    "risk/estimation",
    "risk/hierarchy",
    "risk/matrices",
    "risk/matrix_estimate",
    "risk/matrix_refresh",
    "risk/risk_backtest",
    "risk/risk_report",
    "risk/stress",
    "simulation/beside",
    "simulation/simulate",
    "simulation/tune",
    "sizing/stakes",
    "webhooks/body",
}


def knows_messages(path: Path) -> bool:
    return bool(imported(path) & MESSAGES)


def test_messages_of_the_contract_stay_at_the_border() -> None:
    """A sizing is gathered, sized and recorded without; nothing is listed that needs not be."""
    server = ROOT / "server"
    inside = {
        str(path.relative_to(server).with_suffix(""))
        for path in sorted(server.rglob("*.py"))
        if path.relative_to(server).parts[0] not in BORDER and knows_messages(path)
    }
    assert inside == RPC_LAYER | METHODS


Definition = tuple[str, str]
"""Module and name."""


class Reach:
    """Which definitions of compute and server use which, by the names in their text."""

    def __init__(self) -> None:
        paths = [path for path in MODULES if path.relative_to(ROOT).parts[0] != "storage"]
        self.trees = {dotted(path): ast.parse(path.read_text()) for path in paths}
        self.imports = {module: aliases(tree) for module, tree in self.trees.items()}
        self.nodes: dict[Definition, ast.AST] = {}
        self.started: list[tuple[str, ast.AST]] = []
        for module, tree in self.trees.items():
            for node in tree.body:
                self._take(module, node)

    def _take(self, module: str, node: ast.stmt) -> None:
        names = defined(node)
        self.nodes |= {(module, name): node for name in names}
        if module.startswith("server") or (isinstance(node, ast.Expr) and not names):
            self.started.append((module, node))  # runs by itself when it is imported

    def found(self, module: str, name: str) -> Definition | None:
        """The definition that a name in a module stands for, through what it imports."""
        for _ in range(8):
            if (module, name) in self.nodes:
                return module, name
            if name not in self.imports.get(module, {}):
                return None
            module, name = self.imports[module][name]
        return None

    def used(self, module: str, node: ast.AST) -> set[Definition]:
        out = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                out.add(self.found(module, part.id))
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                package, name = self.imports[module].get(part.value.id, ("", ""))
                out.add(self.found(f"{package}.{name}".strip("."), part.attr))
        return {item for item in out if item is not None}

    def reached(self) -> set[Definition]:
        seen: set[Definition] = set()
        todo = [item for module, node in self.started for item in self.used(module, node)]
        while todo:
            item = todo.pop()
            if item not in seen:
                seen.add(item)
                todo += self.used(item[0], self.nodes[item])
        return seen


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def aliases(tree: ast.Module) -> dict[str, Definition]:
    """What each imported name stands for."""
    out: dict[str, Definition] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            out |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return out


def defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [
        name.id
        for target in targets
        if target is not None
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    ]


def test_mathematics_is_reached_by_the_service_or_gone() -> None:
    """Every public function and class of compute is used by the server or by what it uses."""
    reach = Reach()
    reached = reach.reached()
    unreached = {
        f"{module}.{name}"
        for (module, name), node in reach.nodes.items()
        if module.startswith("compute")
        and isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not name.startswith("_")
        and (module, name) not in reached
    }
    assert not unreached


def test_migrations_follow_each_other() -> None:
    """Two written side by side take the same number, and then no database starts."""
    files = sorted((ROOT / "storage/postgres/migrations/versions").glob("[0-9]*.py"))
    told = [
        dict(re.findall(r'^(revision|down_revision)[^=]*= "(\w+)"', file.read_text(), re.M))
        for file in files
    ]
    numbers = [f"{n:04}" for n in range(1, len(files) + 1)]
    assert [file.name[:4] for file in files] == numbers
    assert [one["revision"] for one in told] == numbers
    assert [one["down_revision"] for one in told[1:]] == numbers[:-1]


def test_test_files_of_folders_that_are_no_packages_have_names_of_their_own() -> None:
    """Python imports them by that name alone: of two, one is not run."""
    files = [
        path.name
        for path in (ROOT / "tests").rglob("test_*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert sorted(files) == sorted(set(files))
