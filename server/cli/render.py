"""Decisions as tables."""

from collections.abc import Sequence

from google.protobuf.message import Message
from positionsizing.v1 import sizing_pb2, types_pb2

from server.cli.labels import (
    binding_words,
    enum_words,
    group_name,
    is_before_limits,
    limit_and_value,
    limit_text,
    money,
    percent,
    stage_label,
    units,
)
from server.cli.layout import Table

MEMBERS_TOLD = 12
"""Of a cluster."""

PERIODS_TOLD = 6
"""Of a plan; the last is told as well."""


def table(title: str, *columns: str, left: Sequence[str] = (), drop: Sequence[str] = ()) -> Table:
    """A plain table; `drop` are the columns that a narrow terminal does without."""
    return Table(title, columns, left, drop)


def columns_table(title: str, message: Message) -> Table:
    """A message of parallel columns with `instrument_ids`, a row an instrument.

    Column names are the contract's; empty ones are left out.
    """
    names: list[str] = []
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated and field.message_type is None and getattr(message, field.name):
            names.append(field.name)
    names.sort(key="instrument_ids".__ne__)
    texts = [n for n in names if isinstance(getattr(message, n)[0], str)]
    headed = {
        name: name.replace("_", " ").replace("instrument ids", "instrument") for name in names
    }
    out = table(
        title,
        *headed.values(),
        left=[headed[name] for name in texts],
        drop=[headed[name] for name in reversed(names[2:])],
    )
    for cells in zip(*(getattr(message, name) for name in names), strict=True):
        out.add_row(*(cell if isinstance(cell, str) else f"{cell:,.8g}" for cell in cells))
    return out


def sizes_table(decision: sizing_pb2.SizingDecision) -> Table:
    """One row a line: from raw Kelly to lots, and what bound it."""
    sizes, stages = decision.sizes, decision.waterfall.stages
    stake = [stage for stage in stages if is_before_limits(stage.stage)][-1]
    out = table(
        "Sizes",
        *("instrument", "raw Kelly", "stake", "weight", "position", "trade", "lots"),
        *("notional", "bound by"),
        left=("instrument", "bound by"),
        drop=("raw Kelly", "lots", "stake", "notional"),
    )
    for i, name in enumerate(sizes.instrument_ids):
        status = sizes.line_status[i]
        if status == types_pb2.LINE_STATUS_REFUSED:
            reason = "refused, position kept"
        elif status == types_pb2.LINE_STATUS_ZERO and not sizes.binding[i]:
            is_passed_over = decision.HasField("certificate") and stages[0].weight[i] != 0.0
            reason = "not in the best portfolio" if is_passed_over else "no edge left"
        else:
            reason = binding_words(sizes, i) or "nothing (the stake in whole lots)"
        lot = sizes.lot_size[i]
        out.add_row(
            name,
            percent(stages[0].weight[i], 0),
            percent(stake.weight[i], 1),
            percent(sizes.weight[i], 2),
            units(sizes.quantity[i], "+"),
            units(sizes.trade_lots[i] * lot, "+") if sizes.trade_lots[i] else "",
            f"{sizes.lots[i]:+,}",
            money(sizes.notional[i]),
            reason,
        )
    return out


def totals_table(decision: sizing_pb2.SizingDecision) -> Table:
    """One row a stage: gross and net weight of the batch, and how many lines it changed."""
    out = table(
        "Waterfall, all lines", "stage", "gross", "change", "net", "lines", "why",
        left=("stage", "why"), drop=("net",),
    )  # fmt: skip
    before: Sequence[float] | None = None
    for stage in decision.waterfall.stages:
        name, why = stage_label(stage.stage)
        gross, net = sum(map(abs, stage.weight)), sum(stage.weight)
        change = lines = ""
        if before is not None:
            change = percent(gross - sum(map(abs, before)))
            lines = str(sum(a != b for a, b in zip(stage.weight, before, strict=True)))
        out.add_row(name, percent(gross), change, percent(net), lines, why)
        before = stage.weight
    return out


def prediction_words(decision: sizing_pb2.SizingDecision) -> list[str]:
    """What models said of the edges of lines, in sentences."""
    return [
        f"edges of {len(item.lines)} lines by model {item.model_id}, hash {item.model_hash[:12]}: "
        f"win probabilities {min(item.win_probability):.4f} to {max(item.win_probability):.4f}"
        for item in decision.predictions
        if item.lines
    ] + [
        f"features of {len(item.lines)} lines from set {item.feature_set_id}, the oldest as of "
        f"{min(time.ToDatetime() for time in item.as_of_times):%Y-%m-%d %H:%M}"
        for item in decision.features
        if item.lines
    ]


def adjustment_words(decision: sizing_pb2.SizingDecision) -> list[str]:
    """What rules took off the Kelly fraction or the edges, in sentences."""
    said = []
    for item in decision.adjustments:
        source = sizing_pb2.AdjustmentSource.Name(item.source).removeprefix("ADJUSTMENT_SOURCE_")
        what = "edges" if source in ("EDGE_AGE", "SIZE_MODEL") else "Kelly fraction"
        counts = "" if item.is_binding else ", a smaller one counts"
        name = f"{source.lower().replace('_', ' ')} {item.name}"
        said.append(f"{what} x {item.multiplier:.6g} by {name}: {item.explanation}{counts}")
    return said


def line_table(decision: sizing_pb2.SizingDecision, line: int) -> Table:
    """One line's way from raw Kelly to lots."""
    sizes = decision.sizes
    trade = sizes.trade_lots[line] * sizes.lot_size[line]
    title = (
        f"{sizes.instrument_ids[line]}: {units(sizes.quantity[line], '+')} units, "
        f"{percent(sizes.weight[line])} of equity, trade {units(trade, '+')}"
    )
    out = table(title, "stage", "weight", "change", "why", left=("stage", "why"))
    before: float | None = None
    for stage in decision.waterfall.stages:
        name, why = stage_label(stage.stage)
        weight = stage.weight[line]
        if weight == before:
            continue
        if stage.limit and stage.limit[line]:
            group = group_name(sizes, stage.limit_group[line])
            why = limit_text(stage.limit[line], stage.limit_bound[line], group)
        change = "" if before is None else percent(weight - before, 4)
        out.add_row(name, percent(weight, 4), change, why)
        before = weight
    return out


def line_words(decision: sizing_pb2.SizingDecision, line: int) -> list[str]:
    """What else there is to say about a line, in sentences."""
    sizes = decision.sizes
    said = []
    if words := binding_words(sizes, line):
        joint = decision.HasField("certificate")
        without = sizes.weight_without_binding[line]
        is_cut = abs(sizes.weight[line]) <= abs(without)
        cut = f", which {'cut' if is_cut else 'moved'} it from {percent(without)}"
        said.append(f"set by: {words}{'' if joint else cut}")
        if price := sizes.marginal_growth[line]:
            what = "the objective" if joint else "log growth"
            said.append(f"one more percent of equity would add {price * 0.01:.2e} of {what}")
    low, high = sizes.weight_low[line], sizes.weight_high[line]
    if low != high:
        said.append(f"stake before limits between {percent(low)} and {percent(high)}")
    if growth := sizes.expected_growth[line]:
        said.append(f"expected log growth {growth:.2e} a period")
    return said + plan_words(decision, line)


def plan_words(decision: sizing_pb2.SizingDecision, line: int) -> list[str]:
    """What is planned of a line, and what limits cut it in later periods."""
    periods = decision.plan.periods
    path = [percent(period.weight[line]) for period in periods]
    if not path:
        return []
    later = ", ".join(path[1:PERIODS_TOLD])
    end = f" ... {path[-1]} in period {len(path)}" if len(path) > PERIODS_TOLD else ""
    said = [f"planned: {path[0]} now{', then ' if later else ''}{later}{end}"]
    inside = sum(len(period.lots) > 0 for period in periods)
    if inside < len(periods):
        said.append(f"planned inside the limits, in whole lots: {inside} of {len(periods)} periods")
    last = ""
    for number, period in enumerate(periods[1:], 2):
        if not period.binding:
            continue
        group = group_name(decision.sizes, period.binding_group[line])
        words = limit_text(period.binding[line], period.binding_bound[line], group)
        if words and words != last:
            said.append(f"planned period {number} is set by: {words}")
        last = words
    return said


def summary_lines(decision: sizing_pb2.SizingDecision) -> list[str]:
    """Outcome, money and exposures."""
    summary = decision.summary
    status = enum_words(types_pb2.SizingStatus, decision.status, "SIZING_STATUS_")
    method = enum_words(types_pb2.SizingMethod, decision.method, "SIZING_METHOD_")
    lines = [
        f"{status}, {method}; equity {money(summary.equity)}",
        f"cash {money(summary.cash_available)} available, {money(summary.cash_reserved)} reserved",
        f"gross {percent(summary.gross_weight_before)} -> {percent(summary.gross_weight_after)}, "
        f"net {percent(summary.net_weight_before)} -> {percent(summary.net_weight_after)}, "
        f"turnover {percent(summary.turnover)}",
    ]
    if decision.HasField("algorithm") and not decision.algorithm.failure:
        lines.append(f"sized by algorithm {decision.algorithm.name} {decision.algorithm.version}")
    lines += [_exceeded_words(item) for item in decision.limits_exceeded]
    for step in decision.fallback_chain:
        lines.append(f"tried {step.method}: {step.outcome}")
    if decision.HasField("certificate"):
        gap = decision.certificate.duality_gap_relative
        lines.append(f"certificate: duality gap {gap:.1e} relative")
        if decision.certificate.note:
            lines.append(decision.certificate.note)
    if decision.HasField("lot_search"):
        lines.append(_search_words(decision.lot_search))
    lines += decision.notes
    lines += [_cluster_words(item) for item in decision.clusters if len(item.instrument_ids) > 1]
    if decision.decision_id:
        until = decision.reservation_expire_time
        told = f"{until.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
        held = f", reserved until {told}" if until.seconds else ""
        lines.append(f"decision {decision.decision_id}{held}")
    else:
        lines.append("not recorded")
    return lines


def _exceeded_words(item: sizing_pb2.ExceededLimit) -> str:
    named = "" if item.name in ("portfolio", "group") else item.name
    limit, value = limit_and_value(item.kind, item.bound, item.value, named)
    return f"limit exceeded: {limit}; it is {value}{_UNIT_OF_VALUE.get(item.kind, '')}"


_UNIT_OF_VALUE = {
    types_pb2.LIMIT_KIND_RESTRICTED: " in base currency",
    types_pb2.LIMIT_KIND_SHORT_NOT_ALLOWED: " units",
}
"""Of limits whose words have no number."""


def _cluster_words(item: sizing_pb2.InstrumentCluster) -> str:
    names = ", ".join(item.instrument_ids[:MEMBERS_TOLD])
    more = len(item.instrument_ids) - MEMBERS_TOLD
    return f"cluster {item.name}: {names}{f' and {more} more' if more > 0 else ''}"


def _search_words(search: sizing_pb2.LotSearch) -> str:
    if not search.is_used:
        return f"whole lots: rounded; {search.note or 'no others are worth more'}"
    gained = abs(search.objective - search.objective_rounded)
    said = f"whole lots: searched, {gained:.2e} better than rounding"
    if search.HasField("gap"):
        return f"{said}, at most {search.gap:.1e} relative from the best"
    return f"{said}; {search.note}"
