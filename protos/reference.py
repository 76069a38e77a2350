"""Tables of the documentation and the catalogue of `sizing methods`, made from the contract and
from what is declared in `compute`.

`python -m protos.reference` writes them between their markers (`<!-- stages -->`, `<!-- end -->`);
with `--check` it fails where one is stale. What a value means is the comment of the contract.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from positionsizing.v1 import (
    correlation_service_pb2,
    edge_service_pb2,
    label_pb2,
    learning_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    risk_service_pb2,
    sizing_pb2,
    types_pb2,
)

from compute.limits.policy import LimitKind
from compute.optimize.problem import ObjectiveKind
from compute.parameters import PARAMETERS, Form, Parameter
from server.calls.reasons import REASONS

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = "server/cli/catalogue.json"
"""What `sizing methods` shows."""
PAGES = ("docs/reference.md", "docs/user-guide.md", "docs/reasons.md")
_BLOCK = re.compile(r"<!-- (\w+) -->\n.*?<!-- end -->", re.DOTALL)


@cache
def comments() -> Mapping[str, str]:
    """What the contract says of each value of an enumeration, and of each `Message.field`."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "protos" / "positionsizing" / "v1").glob("*.proto")):
        message, lines = "", list[str]()
        for line in path.read_text().splitlines():
            if opened := re.match(r"message (\w+) \{", line):
                message = opened[1]
            if comment := re.match(r"\s*// (.*)", line):
                lines.append(comment[1])
                continue
            if value := re.match(r"  ([A-Z][A-Z0-9_]+) = \d+", line):
                found[value[1]] = " ".join(lines)
            elif field := re.match(r" {2,4}(?:optional |repeated )?[\w.]+ (\w+) = \d+", line):
                found[f"{message}.{field[1]}"] = " ".join(lines)
            lines = []
    return found


def _table(*rows: Sequence[str]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _values(enum: EnumDescriptor) -> Iterator[tuple[str, label_pb2.Label, str]]:
    """Name without prefix, label and comment of each value but that of what is not said."""
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    for value in enum.values[1:]:
        label = value.GetOptions().Extensions[label_pb2.label]
        yield value.name.removeprefix(prefix), label, comments()[value.name]


def _stages() -> str:
    rows = [(label.name, text) for _, label, text in _values(types_pb2.SizingStage.DESCRIPTOR)]
    return _table(("stage", "what it does"), *rows)


def _methods() -> str:
    rows = [(f"`{name}`", text) for name, _, text in _values(types_pb2.SizingMethod.DESCRIPTOR)]
    return _table(("method", "what it does"), *rows)


def _sources() -> str:
    rows = [(f"`{name}`", text) for name, _, text in _values(sizing_pb2.EdgeSource.DESCRIPTOR)]
    return _table(("edge source", "what the edge is computed from"), *rows)


def _limits() -> str:
    def stated(kind: LimitKind) -> str:
        if kind.holder is None:
            return ""
        return f"{kind.holder.value}: " + ", ".join(f"`{name}`" for name in kind.fields)

    rows = [
        (f"`{name}`", label.text, stated(LimitKind[name]), text)
        for name, label, text in _values(types_pb2.LimitKind.DESCRIPTOR)
    ]
    return _table(("limit", "as it is told", "stated by", "what it is"), *rows)


def _parameters() -> str:
    def bounds(p: Parameter) -> str:
        if p.range is not None:
            return p.range.text + (f" ({p.range.unit})" if p.range.unit else "")
        if p.form is Form.CHOICE:
            return ", ".join(f"`{value.name}`" for value in p.type)
        return f"from 1 s to {p.most_s / 86400:g} days" if p.form is Form.DURATION else p.form.value

    def default(p: Parameter) -> str:
        if p.default in (None, ()) or p.form is Form.MESSAGE:
            return "none"
        if p.form is Form.CHOICE:
            return f"`{p.default.name}`"
        return f"{p.default:g}" + (" s" if p.form is Form.DURATION else "")

    by_name = {p.contract_name: p for p in PARAMETERS}
    fields = parameter_service_pb2.SizingParameters.DESCRIPTOR.fields
    rows = [
        (f"`{field.name}`", default(p), bounds(p), comments()[f"SizingParameters.{field.name}"])
        for field in fields
        for p in (by_name[field.name],)
    ]
    return _table(("parameter", "default", "values", "meaning"), *rows)


def _objectives() -> str:
    kinds = _values(optimization_service_pb2.ObjectiveKind.DESCRIPTOR)
    rows = [(f"`{name}`", f"`{ObjectiveKind[name].value}`", text) for name, _, text in kinds]
    return _table(("objective", "in symbols", "what it is"), *rows)


def _reasons() -> str:
    rows = [
        (f"`{name}`", ", ".join(place.value for place in reason.places), reason.remedy)
        for name, reason in sorted(REASONS.items())
    ]
    return _table(("reason", "told of, or with", "what to do"), *rows)


# What there is to choose from: what it is called, where it is said, and the enumeration.
CHOICES: Sequence[tuple[str, str, EnumDescriptor]] = (
    (
        "methods",
        "SizePositionsRequest.method, SizingParameters.method",
        types_pb2.SizingMethod.DESCRIPTOR,
    ),
    ("edge sources", "SignalBatch.edge_source", sizing_pb2.EdgeSource.DESCRIPTOR),
    (
        "confidence",
        "SizingParameters.confidence_shrinkage",
        parameter_service_pb2.ConfidenceShrinkage.DESCRIPTOR,
    ),
    (
        "worst cases",
        "SizingParameters.robust",
        parameter_service_pb2.UncertaintySet.DESCRIPTOR,
    ),
    (
        "correlation penalties",
        "SizingParameters.correlation_penalty, method CLOSED_FORM",
        parameter_service_pb2.CorrelationPenalty.DESCRIPTOR,
    ),
    (
        "no-trade regions",
        "SizingParameters.no_trade_region",
        parameter_service_pb2.NoTradeRegion.DESCRIPTOR,
    ),
    (
        "objectives",
        "SizingParameters.joint_objective of method JOINT, OptimizePortfolio",
        optimization_service_pb2.ObjectiveKind.DESCRIPTOR,
    ),
    (
        "lots",
        "SizingParameters.lot_choice of method JOINT",
        parameter_service_pb2.LotChoice.DESCRIPTOR,
    ),
    (
        "tails",
        "JointLimits.tails of every method, ReportRisk, BacktestRisk",
        risk_service_pb2.TailMethod.DESCRIPTOR,
    ),
    (
        "matrices",
        "EstimateMatrix",
        correlation_service_pb2.CovarianceEstimator.DESCRIPTOR,
    ),
    (
        "linkages",
        "ClusterLimit.linkage, ClusterInstruments",
        correlation_service_pb2.Linkage.DESCRIPTOR,
    ),
    ("hierarchies", "AllocateByHierarchy", correlation_service_pb2.HierarchyMethod.DESCRIPTOR),
    ("means", "EstimateEdge", edge_service_pb2.MeanShrinkage.DESCRIPTOR),
    ("models", "TrainModel", learning_service_pb2.ModelKind.DESCRIPTOR),
)


def catalogue() -> str:
    """Every choice, and every sizing parameter, with what the contract says of it, as JSON."""
    groups = [
        {
            "title": title,
            "where": where,
            "ways": [{"name": name, "text": text} for name, _, text in _values(enum)],
        }
        for title, where, enum in CHOICES
    ]
    fields = parameter_service_pb2.SizingParameters.DESCRIPTOR.fields
    told = [
        {"name": field.name, "text": comments()[f"SizingParameters.{field.name}"]}
        for field in fields
    ]
    where = "SetParameters, of firm, portfolio and strategy"
    groups.append({"title": "parameters", "where": where, "ways": told})
    return json.dumps(groups, indent=1, ensure_ascii=False) + "\n"


TABLES: Mapping[str, Callable[[], str]] = {
    "methods": _methods,
    "sources": _sources,
    "stages": _stages,
    "limits": _limits,
    "parameters": _parameters,
    "objectives": _objectives,
    "reasons": _reasons,
}


def written(page: str) -> str:
    """The text of a page with its tables as they have to be."""

    def table(block: Any) -> str:
        return f"<!-- {block[1]} -->\n\n{TABLES[block[1]]()}\n\n<!-- end -->"

    return _BLOCK.sub(table, (ROOT / page).read_text())


def main() -> None:
    """Writes the tables, or compares them with those that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a table is stale")
    is_check = parser.parse_args().check
    texts = {page: written(page) for page in PAGES} | {CATALOGUE: catalogue()}
    for page, text in texts.items():
        if is_check and (not (ROOT / page).exists() or text != (ROOT / page).read_text()):
            raise SystemExit(f"{page} is stale: run `python -m protos.reference`")
        (ROOT / page).write_text(text)


if __name__ == "__main__":
    main()
