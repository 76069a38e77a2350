"""Every reason that a caller is told (of an error, a field or a line), and what to do.

`docs/reasons.md` is made of this table. A reason keeps its meaning and its codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Place(StrEnum):
    """Where a reason is told. gRPC codes by name, but for fields and lines."""

    FIELD = "a field"  # INVALID_ARGUMENT, in `BadRequest` by its path
    LINE = "a line"  # the line is refused, the others are sized
    STATE = "FAILED_PRECONDITION"
    NOT_FOUND = "NOT_FOUND"
    EXISTS = "ALREADY_EXISTS"
    ABORTED = "ABORTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE = "DEADLINE_EXCEEDED"
    EXHAUSTED = "RESOURCE_EXHAUSTED"
    CANCELLED = "CANCELLED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    DENIED = "PERMISSION_DENIED"
    INTERNAL = "INTERNAL"
    UNIMPLEMENTED = "UNIMPLEMENTED"


@dataclass(frozen=True)
class Reason:
    """Where a reason is told, and what whoever meets it does."""

    places: tuple[Place, ...]
    remedy: str


def _told(remedy: str, *places: Place) -> Reason:
    return Reason(places, remedy)


FIELD, LINE, STATE = Place.FIELD, Place.LINE, Place.STATE
_DATA = "Send what is named, with the market snapshot or the matrix."

REASONS: Mapping[str, Reason] = {
    # What is wrong with a request by itself.
    "AMBIGUOUS": _told("Give one of the fields, not both.", FIELD),
    "BAD_FORMAT": _told("Write the value as the message says.", FIELD),
    "CONTRADICTION": _told("Two settings exclude each other; drop one.", FIELD),
    "CONTRADICTORY": _told("Two numbers can't both be true; correct one.", FIELD),
    "CURRENCY_NOT_NAMED": _told("Name the instrument's currency in the snapshot.", FIELD, STATE),
    "DUPLICATE": _told("Name each once.", FIELD, LINE),
    "EMPTY": _told("Send at least one entry.", FIELD),
    "EMPTY_RANGE": _told("The lower bound is above the upper one; correct one.", FIELD),
    "FILL_OUT_OF_BAND": _told(
        "The price is far from the one decided on: check its unit, or the fill.", FIELD
    ),
    "LENGTH_MISMATCH": _told("Columns of one table must be of equal length.", FIELD),
    "MISSING": _told("Give the field.", FIELD, LINE),
    "MISSING_FEATURE": _told("Send or store every feature that the model reads.", FIELD, LINE),
    "NOT_ALLOWED": _told(
        "Use a public address, or have the operator allow it (`SIZING_WEBHOOK_NETWORKS`).", FIELD
    ),
    "NOT_APPLICABLE": _told("Leave the field out: it means nothing here.", FIELD),
    "NOT_AVAILABLE": _told("Name another, or have the operator install what is needed.", FIELD),
    "NOT_A_DATE": _told("Write dates as 2026-11-29.", FIELD),
    "NOT_FINITE": _told("Send a number; NaN and infinity are none.", FIELD, LINE),
    "NOT_MONOTONE": _told("Train the trees with that constraint, or leave it out.", FIELD),
    "NOT_LATER": _told("Send only bets later than those scored before.", FIELD),
    "NOT_POSITIVE_SEMIDEFINITE": _told(
        "The matrix is no covariance: estimate it anew, or ask for repair.", FIELD, STATE
    ),
    "NOT_RISING": _told("Send observations in the order of their times.", FIELD),
    "NOT_SORTED": _told("Send sessions in the order of their dates.", FIELD),
    "NOT_STATIONARY": _told("The model's weights sum to 1 or more; lower them.", FIELD),
    "NOT_SYMMETRIC": _told("Send a symmetric matrix.", FIELD),
    "NOT_WELL_FORMED": _told("The problem is none as stated; the message says why.", FIELD),
    "NO_PRICE": _told("Name only instruments with a price in the snapshots.", FIELD),
    "OUT_OF_RANGE": _told(
        "Is it a unit, percent, or a slip? The range is in the message.", FIELD, LINE
    ),
    "OVERLAPS_TRAINING": _told("Send only bets that began after the training data ended.", FIELD),
    "RESERVED": _told("Take another: the service uses it for something else.", FIELD),
    "STALE_FEATURES": _told("Send or store features as young as the model takes.", FIELD, LINE),
    "TOO_FEW": _told("Send as many as the message asks for.", FIELD),
    "TOO_FEW_OUTCOMES": _told(
        "Collect more outcomes, or state the edge another way.", FIELD, LINE, STATE
    ),
    "TOO_FEW_ROWS": _told("Collect more bets; both wins and losses are needed.", FIELD),
    "TOO_LONG": _told("Shorten the text; of work: ask for less or give more time.", FIELD, STATE),
    "TOO_MANY": _told("Send fewer entries, or remove old ones.", FIELD, LINE, STATE),
    "UNDECODABLE": _told("The bytes are no message of this method: check client and stubs.", FIELD),
    "UNKNOWN_ALGORITHM": _told("Name one that `ListAlgorithms` has.", FIELD, STATE),
    "UNKNOWN_CURRENCY": _told("Use ISO 4217 codes.", FIELD),
    "UNKNOWN_DATE": _told("Name a date that the history has.", FIELD),
    "UNKNOWN_FEATURE": _told("Send only features that a model in use reads.", FIELD),
    "UNKNOWN_FIELD": _told(
        "Is the client newer than the server? Update, or drop the field.", FIELD
    ),
    "UNKNOWN_INSTRUMENT": _told(
        "Name instruments as snapshot or history has them.", FIELD, LINE, STATE
    ),
    "UNKNOWN_VALUE": _told("Use one of the values in the message.", FIELD),
    "WRONG_KIND": _told("Name a matrix or history of the kind that is needed.", FIELD),
    "WRONG_SCHEMA": _told(
        "The features are made otherwise than the model's: use its program.", FIELD
    ),
    # Of a line, beside those above; the others of the request are sized.
    "ALGORITHM_BUSY": _told("All its turns are taken; the line keeps its position.", LINE),
    "ALGORITHM_ERROR": _told("The algorithm failed; its line keeps its position.", LINE),
    "ALGORITHM_INVALID_ANSWER": _told("Mend the algorithm; its lines keep their positions.", LINE),
    "ALGORITHM_NOT_THE_PINNED_ONE": _told(
        "The program is not the one of the settings: the operator looks at it.", LINE
    ),
    "ALGORITHM_RESTING": _told("It failed too often and is asked again in some seconds.", LINE),
    "ALGORITHM_TIMEOUT": _told("The algorithm was late; its lines keep their positions.", LINE),
    "ALGORITHM_UNAVAILABLE": _told("Nothing answers at its address; start it.", LINE),
    "ALGORITHM_OUT_OF_BOUNDS": _told("Mend the algorithm; the line keeps its position.", LINE),
    "ALGORITHM_REFUSED": _told("The algorithm refused the line; its words say why.", LINE),
    "ALGORITHM_WRONG_SIDE": _told("Mend the algorithm; the line keeps its position.", LINE),
    "MISSING_AVERAGE_DAILY_VOLUME": _told(_DATA, LINE, STATE),
    "MISSING_SECTOR": _told(_DATA, LINE, STATE),
    "MISSING_SPREAD": _told(_DATA, STATE),
    "MISSING_VOLATILITY": _told(_DATA, LINE, STATE),
    "NOT_IN_HISTORY": _told("Store the instrument's history, or state its edge otherwise.", LINE),
    "NOT_IN_ESTIMATES": _told(
        "Of a backtest: its window lacks prices of the instrument; a shorter one may not.", LINE
    ),
    "NOT_IN_REGIMES": _told("Name an instrument that the filter has seen returns of.", LINE),
    "NOT_IN_SCENARIOS": _told("Send scenarios that have the instrument.", LINE),
    "NOT_TRADED": _told("Wait until it trades, or correct its state in the snapshot.", LINE),
    "PRICES_END": _told(
        "Say at what price or return the instrument is delisted (`--delistings`), or a return for "
        "all that end (`--delisting-return`).",
        FIELD,
    ),
    "PRICE_JUMP": _told(
        "Check the price; record the split, or confirm it (`sizing market confirm`; "
        "in backtests and searches `--confirm-prices`).",
        FIELD,
        LINE,
        STATE,
    ),
    "STOP_ON_WRONG_SIDE": _told(
        "A stop lies below the price of a long, above that of a short.", LINE
    ),
    # What has to change before the request can succeed.
    "APPROVAL_REQUIRED": _told(
        "It allows more than before: a second person approves the proposal that was made.", STATE
    ),
    "BOOKS_BEFORE_CORPORATE_ACTION": _told(
        "Set holdings as of after the action, or leave it out.", STATE
    ),
    "ARCHIVED": _told(
        "Read it in the archive that is named; a request is not carried out twice.", STATE
    ),
    "DIGEST_MISMATCH": _told("Look at the proposal again: it is not what was seen.", STATE),
    "EDGE_GONE": _told("Train another version; this one doesn't go live.", STATE),
    "EQUITY_JUMP": _told("Check the books; then `sizing portfolio confirm-equity`.", STATE),
    "FAILED_PRECONDITION": _told("The message says what has to change.", STATE),
    "FEATURES_DIFFER": _told("Give a correction the time at which it became known.", STATE),
    "FILL_NOT_OPEN": _told("Report fills only of what is still open of the decision.", STATE),
    "FRACTIONS_NOT_DECLARED": _told("State the lot size of fractional fills.", STATE),
    "HISTORY_GAPS": _told("Fill the gap that is named, or choose another gap policy.", STATE),
    "ILL_CONDITIONED": _told(
        "The covariance is close to singular: more history or shrinkage.", STATE
    ),
    "INCOMPLETE_LIMIT": _told("A limit lacks what it needs; complete or drop it.", STATE),
    "INFEASIBLE_LIMITS": _told(
        "No book keeps all limits: `ExplainInfeasibility` names them.", STATE
    ),
    "INFEASIBLE_VIEWS": _told("The views contradict each other; drop one.", STATE),
    "INTERVALS_UNBOUNDED": _told("Score later bets, or promote another model.", STATE),
    "MISSING_COVARIANCE": _told(_DATA, STATE),
    "MISSING_EXCHANGE_RATE": _told(_DATA, STATE),
    "MISSING_EXPECTED_RETURN": _told("Say the edge as expected_return and volatility.", STATE),
    "MISSING_HISTORY": _told("Store the history that is named (`PutHistory`).", STATE),
    "MISSING_MATRIX": _told(_DATA, STATE),
    "MISSING_MATRIX_ENTRY": _told(_DATA, STATE),
    "MISSING_PLAN_PERIODS": _told("Set `SizingParameters.plan_periods`.", STATE),
    "MISSING_PRICE": _told(
        "Name a market snapshot that has it, or store one of the portfolio's universe.", STATE
    ),
    "MISSING_RISK_BUDGET": _told("Give each line a share of the risk budget.", STATE),
    "MISSING_SCENARIOS": _told(_DATA, STATE),
    "MIXED_CURRENCIES": _told("Ask for one currency at a time.", STATE),
    "MODEL_CORRUPT": _told("Restore the database: a stored model is not what was stored.", STATE),
    "MODEL_NOT_LIVE": _told("Promote a version, or name a model that is live.", STATE),
    "MODEL_UNREADABLE": _told("Use a release that reads the model, or train it anew.", STATE),
    "NOTHING_TO_TRADE": _told("The decision has no open line to change.", STATE),
    "NOT_ESTIMABLE": _told("Send more history, or choose another estimator.", STATE),
    "TOO_FEW_SESSIONS": _told("Of a backtest: a shorter window decides earlier.", STATE),
    "NOT_PROVEN": _told("The model has not beaten the bars; collect evidence.", STATE),
    "NO_ALGORITHM": _told("Name an algorithm, or choose another method.", STATE),
    "NO_ALGORITHM_ANSWER": _told("See `ListAlgorithms`; the lines keep their positions.", STATE),
    "NO_EQUITY": _told("The portfolio is worth nothing; correct cash or holdings.", STATE),
    "NO_FORECASTS": _told("Report forecasts before they are tested.", STATE),
    "NO_FRONTIER": _told("The problem has one best book only; ask for that.", STATE),
    "NO_HIGH_WATER_MARK": _told("Set a drawdown floor first.", STATE),
    "NO_HISTORY": _told("Store a history first (`PutHistory`).", STATE),
    "NO_LIMITS": _told("Set limits of the portfolio, its group or the firm first.", STATE),
    "MULTIPLIERS_DIFFER": _told(
        "Store market snapshots with one multiplier in all universes.", STATE
    ),
    "NO_MARKET": _told("Store a market snapshot first.", STATE),
    "NO_PROBABILITY": _told("A size multiplier can't be scored.", STATE),
    "NO_SECOND_PERSON": _told("A person with a credential of their own has to approve.", STATE),
    "NO_STRESS_SCENARIO": _told(
        "Store the scenario that is named (`PutStressScenario`), or take the limit out.", STATE
    ),
    "NO_VARIANCE": _told("A price that never moves can't be estimated; leave it out.", STATE),
    "OTHER_HISTORY_KIND": _told(
        "Use another universe: one holds prices or returns, not both.", STATE
    ),
    "INPUTS_LOST": _told("Look at its answer; it can't be computed again.", STATE),
    "BARS_OUT_OF_ORDER": _told("Mend that bar, or store it without prices.", STATE),
    "OUT_OF_ORDER": _told("Send observations in the order of their times.", STATE),
    "OWN_PROPOSAL": _told("Somebody else than its author has to approve.", STATE),
    "PACKAGE_MISSING": _told("Install that extra on the server, or choose another kind.", STATE),
    "CLUSTER_MIXED": _told(
        "The operator installs the server's versions on every machine of the cluster.", STATE
    ),
    "PORTFOLIO_CLOSED": _told("Use another portfolio; a closed one is sized no more.", STATE),
    "PORTFOLIO_IN_USE": _told("Close only what holds nothing and has nothing open.", STATE),
    "PROBLEM_TOO_LARGE": _told("Ask for fewer names, or raise `SIZING_JOINT_ASSETS`.", STATE),
    "PROPOSAL_DECIDED": _told("It has been decided already; propose anew.", STATE),
    "PROPOSAL_EXPIRED": _told("It waited for too long; propose anew.", STATE),
    "PROPOSAL_SUPERSEDED": _told("What it changes has changed meanwhile; propose anew.", STATE),
    "RECORDED_BY_NEWER_RELEASE": _told("Replay it with the release that decided.", STATE),
    "SCHEMA_MISMATCH": _told("Run `sizing migrate`, or the release of the schema.", STATE),
    "SINGULAR_COVARIANCE": _told("More history, shrinkage, or fewer names.", STATE),
    "SNAPSHOT_BEFORE_CORPORATE_ACTION": _told("Send a snapshot as of after the action.", STATE),
    "STALE_INPUT": _told("Send newer data; don't loosen the age it may have.", STATE),
    "FIT_IS_NOISE": _told("Fit something simpler, or to a longer history.", STATE),
    "TOO_FEW_PERIODS": _told("Choose a longer span.", STATE),
    "TOO_MANY_FEATURES": _told("Schedule on a smaller universe, or a smaller set.", STATE),
    "TOO_MANY_GROUPS": _told("Use fewer groups of limits.", STATE),
    "TOO_MANY_LOTS": _told("Is the lot size or the price wrong? Else ask for less.", STATE),
    "TRADING_HALTED": _told("Wait until somebody resumes; the message says who halted.", STATE),
    "TRADING_STATE_CHANGING": _told("Send it again.", STATE),
    "UNBOUNDED": _told("Bound the book: leverage, weights or cash.", STATE),
    "UNSUPPORTED_OBJECTIVE": _told("Choose another objective for this problem.", STATE),
    "SECRET_KEYS_MISSING": _told(
        "Have the operator name a file with keys (`SIZING_SECRET_KEYS_FILE`).", STATE
    ),
    "WEBHOOK_DISABLED": _told("Enable the webhook first.", STATE),
    "WRONG_MODEL_KIND": _told("Name a model of the other kind.", STATE),
    "WRONG_STAGE": _told("A model goes from candidate to shadow to live.", STATE),
    # Names and ids.
    "ALREADY_EXISTS": _told("Choose another id, or use what is there.", Place.EXISTS),
    "NOT_FOUND": _told(
        "Does it exist, under this tenant and this grant? Reasons end in it: PORTFOLIO_NOT_FOUND.",
        Place.NOT_FOUND,
        FIELD,
    ),
    "REQUEST_ID_REUSED": _told("Make a new request id for a new request.", Place.ABORTED),
    "INVALID_CONTENT": _told("A value can't be stored; the message names it.", FIELD),
    # Access.
    "UNAUTHENTICATED": _told("Show a valid key or token.", Place.UNAUTHENTICATED),
    "PERMISSION_DENIED": _told("Ask for the scope or the portfolios.", Place.DENIED),
    "PORTFOLIO_NOT_GRANTED": _told("Ask for a grant of all that it concerns.", Place.DENIED),
    "QUOTA_EXCEEDED": _told("Wait as `RetryInfo` says, or ask for less.", Place.EXHAUSTED),
    # Come again: the same request, with the same request id.
    "CORPORATE_ACTION_BETWEEN": _told(
        "Take a market on the decision's side of the corporate action.", STATE
    ),
    "JOB_DIED": _told("Of a job: start it again, with less to do at once.", Place.INTERNAL),
    "BUSY": _told("Come again as `RetryInfo` says.", Place.EXHAUSTED),
    "CALLER_QUEUE_FULL": _told("Send fewer at once.", Place.EXHAUSTED),
    "CANCELLED": _told("The caller ended the call.", Place.CANCELLED),
    "CLUSTER_UNAVAILABLE": _told(
        "Send it again; the operator looks at the cluster. What was done is kept.",
        Place.UNAVAILABLE,
    ),
    "CONTENDED": _told("Send it again; others changed the portfolio meanwhile.", Place.ABORTED),
    "DEADLINE": _told("Give the call more time.", Place.DEADLINE),
    "DRAINING": _told("Ask another server.", Place.UNAVAILABLE),
    "INTERRUPTED": _told("Send it again under the same request id.", Place.UNAVAILABLE),
    "JOINT_RESTARTED": _told("Send it again in two seconds.", Place.UNAVAILABLE),
    "OUT_OF_TIME": _told("Give long work more time, or less to do.", Place.DEADLINE),
    "OVERLOADED": _told("Come again as `RetryInfo` says.", Place.UNAVAILABLE),
    "PREPARING": _told("Programs are compiled; come again.", Place.UNAVAILABLE),
    "RESPONSE_TOO_LARGE": _told("Ask for less, or accept larger messages.", Place.EXHAUSTED),
    "STORED_BY_NEWER_RELEASE": _told(
        "Send it again: servers are being replaced, and one of the newer release knows it.",
        Place.UNAVAILABLE,
    ),
    "STORAGE_CONTENDED": _told("Send it again under the same request id.", Place.UNAVAILABLE),
    "STORAGE_DEADLINE_EXCEEDED": _told(
        "Send it again under the same request id.", Place.UNAVAILABLE
    ),
    "WORK_ENDED": _told(
        "Send it again: the process of the work was ended, for want of memory perhaps.",
        Place.UNAVAILABLE,
    ),
    "STORAGE_UNAVAILABLE": _told(
        "Send it again; the operator looks at PostgreSQL.", Place.UNAVAILABLE
    ),
    "VERSION_CONFLICT": _told("Read the state afresh and send it again.", Place.ABORTED),
    # A bug.
    "INTERNAL": _told("Tell the operator: the log has the trace.", Place.INTERNAL),
    # Of a gateway.
    "FOREIGN_ORIGIN": _told(
        "Have the gateway answer pages of that origin (`--origin`).", Place.DENIED
    ),
    "NO_SUCH_METHOD": _told(
        "POST to /SERVICE/METHOD, as the contract names them.", Place.UNIMPLEMENTED
    ),
    "SERVER_IS_OPEN": _told(
        "Have the service ask for credentials (`SIZING_AUTH=required`): others reach the gateway.",
        Place.DENIED,
    ),
    "TOO_LARGE": _told("Send a smaller body, or raise `--body-max-mb`.", Place.EXHAUSTED),
    "UNSUPPORTED_CONTENT": _told("Send one of the content types in the message.", FIELD),
    "SERVICE_AWAY": _told(
        "Send it again under the same request id; the operator looks whether the service runs.",
        Place.UNAVAILABLE,
    ),
}
