"""What the numbers of the contract are called when people read them."""

from collections.abc import Callable

from positionsizing.v1 import sizing_pb2, types_pb2

STAGES = {
    "RAW_KELLY": ("raw Kelly", "full Kelly stake of each line by itself"),
    "COST": ("costs", "costs taken out of the edge"),
    "CONFIDENCE": ("confidence", "shrunk because the edge is uncertain"),
    "ROBUST": ("worst case", "shrunk to what the worst case of the edge leaves"),
    "KELLY_FRACTION": ("Kelly fraction", "fraction of Kelly, or less by the drawdown tolerance"),
    "CORRELATION": ("correlation", "shares risk with other lines or with what is held"),
    "TRADING_COST": ("worth trading", "trades worth their cost only, smaller by their impact"),
    "VOLATILITY_TARGET": ("volatility target", "volatility target of one line"),
    "STOP_RISK": ("stop risk", "largest loss at the stop"),
    "RISK_BUDGET": ("risk budget", "risk budget of the strategy"),
    "JOINT_OPTIMUM": ("joint optimum", "optimum of the whole book"),
    "ALGORITHM": ("algorithm", "what the custom algorithm sized"),
    "TRADE_RATE": ("part of the way", "only a part of the way is traded at once"),
    "PERMISSION": ("permission", "trading state, short sales, change of side"),
    "MINIMUM_TRADE": ("minimum trade", "trades too small to send"),
    "INSTRUMENT_LIMIT": ("instrument", "limits of the instrument"),
    "LIQUIDITY": ("liquidity", "share of the daily volume"),
    "GROUP_LIMIT": ("group", "limits of groups and sectors"),
    "EXPOSURE_LIMIT": ("exposure", "gross and net exposure, leverage"),
    "SHARED_LIMIT": ("shared", "exposure shared with other portfolios"),
    "TURNOVER_LIMIT": ("turnover", "turnover of the decision"),
    "CASH": ("cash", "cash at hand"),
    "RECONCILE": ("reconcile", "all trades taken back where limits pull apart"),
    "BOOK_LIMIT": ("book", "limits of the whole book: risk, linear limits"),
    "LOTS": ("lots", "whole lots, rounded to the safe side"),
}
"""A short name and a reason for each stage, without SIZING_STAGE_."""

_BEFORE_LIMITS = {
    "RAW_KELLY",
    "COST",
    "CONFIDENCE",
    "ROBUST",
    "KELLY_FRACTION",
    "CORRELATION",
    "TRADING_COST",
    "VOLATILITY_TARGET",
    "STOP_RISK",
    "RISK_BUDGET",
    "JOINT_OPTIMUM",
    "ALGORITHM",
    "TRADE_RATE",
}


def percent(value: float, digits: int = 2) -> str:
    """A fraction as a percentage."""
    return f"{value + 0.0:.{digits}%}"


def money(value: float) -> str:
    """An amount without cents."""
    return f"{value + 0.0:,.0f}"


def _plain(value: float) -> str:
    return f"{value:,.6g}"


_LIMITS: dict[str, tuple[str, Callable[[float], str] | None]] = {
    "WEIGHT_MAX": ("at most {} of equity in one instrument", percent),
    "NOTIONAL_MAX": ("at most {} in one instrument", money),
    "QUANTITY_MAX": ("at most {} units", _plain),
    "RESTRICTED": ("on the restricted list", None),
    "SHORT_NOT_ALLOWED": ("no short positions allowed", None),
    "FLIP_NOT_ALLOWED": ("no change of side in one step: closed first", None),
    "REDUCING_ONLY": ("trading state REDUCING: only smaller positions", None),
    "ADV_TRADE_MAX": ("trade at most {} of the daily volume", percent),
    "ADV_POSITION_MAX": ("position at most {} of the daily volume", percent),
    "EXIT_DAYS_MAX": ("closed within {} days at the participation rate", _plain),
    "GROUP_GROSS_MAX": ("group {group}: at most {} gross", percent),
    "GROUP_NET_MAX": ("group {group}: at most {} net", percent),
    "GROUP_NET_MIN": ("group {group}: at least {} net", percent),
    "NET_MAX": ("portfolio: at most {} net", percent),
    "NET_MIN": ("portfolio: at least {} net", percent),
    "GROSS_NOTIONAL_MAX": ("portfolio: at most {} gross", money),
    "LEVERAGE_MAX": ("portfolio: at most {} of equity gross", percent),
    "TURNOVER_MAX": ("turnover at most {} of equity", percent),
    "CASH": ("{} of cash to spend", money),
    "SHARED_GROSS_NOTIONAL_MAX": ("group of portfolios: at most {} gross", money),
    "SHARED_INSTRUMENT_NOTIONAL_MAX": ("group of portfolios: at most {} in it", money),
    "TRADE_NOTIONAL_MIN": ("trades under {} are not sent", money),
    "TRADE_WEIGHT_MIN": ("changes under {} of equity are not sent", percent),
    "STOP_REQUIRED": ("no stop, no larger position", None),
    "POSITIONS_MAX": ("at most {} positions", _plain),
    "TRADE_NOTIONAL_MAX": ("trade at most {}", money),
    "LOT_SIZE": ("less than one lot of {}", _plain),
    "VOLATILITY_TARGET": ("at most {} a year of volatility", percent),
    "STOP_RISK": ("at most {} of equity lost at the stop", percent),
    "RISK_BUDGET": ("risk budget {} a year", percent),
    "VOLATILITY_MAX": ("book: volatility at most {}", percent),
    "VAR_MAX": ("book: value at risk at most {}", percent),
    "CVAR_MAX": ("book: conditional value at risk at most {}", percent),
    "CDAR_MAX": ("book: conditional drawdown at most {}", percent),
    "DRAWDOWN_RISK": ("book: risk of falling below the floor at most {}", percent),
    "LINEAR": ("limit {group}: bound {}", _plain),
    "NO_EQUITY": ("no equity left: positions may only be reduced", None),
    "ORDER_MAX": ("largest order of the instrument: {} units", _plain),
    "ORDER_MIN": ("order smaller than the instrument allows", None),
}


def stage_key(stage: int) -> str:
    """The name of a stage without its prefix; a number of a newer release as it is."""
    known = types_pb2.SizingStage.DESCRIPTOR.values_by_number.get(stage)
    return known.name.removeprefix("SIZING_STAGE_") if known else str(stage)


def stage_words(stage: int) -> tuple[str, str]:
    """Short name and reason of a stage."""
    key = stage_key(stage)
    return STAGES.get(key, (key.lower(), ""))


def is_before_limits(stage: int) -> bool:
    """Whether a stage belongs to the stake: what edge and risk rules ask for."""
    return stage_key(stage) in _BEFORE_LIMITS


def limit_words(kind: int, bound: float, group: str = "") -> str:
    """A limit in words with its bound; empty for none."""
    if kind == 0:
        return ""
    known = types_pb2.LimitKind.DESCRIPTOR.values_by_number.get(kind)
    key = known.name.removeprefix("LIMIT_KIND_") if known else f"limit {kind}"
    text, shown = _LIMITS.get(key, (key.lower(), None))
    return text.format(shown(bound) if shown else "", group=group)


def group_name(sizes: sizing_pb2.PositionSizes, place: int) -> str:
    """The name of a group by its place, counted from 1; empty for 0, which is no group."""
    return str(sizes.group_names[place - 1]) if place else ""


def binding_words(sizes: sizing_pb2.PositionSizes, line: int) -> str:
    """What set the size of a line."""
    group = group_name(sizes, sizes.binding_group[line])
    return limit_words(sizes.binding[line], sizes.binding_bound[line], group)


def enum_words(enum: object, value: int, prefix: str) -> str:
    """An enum value in small letters without its prefix."""
    known = enum.DESCRIPTOR.values_by_number.get(value)  # type: ignore[attr-defined]
    return known.name.removeprefix(prefix).lower().replace("_", " ") if known else str(value)
