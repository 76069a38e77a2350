"""What people are told when a command fails: what was wrong, where, and what to do."""

import json
import re
import sys
from dataclasses import dataclass, field
from typing import Any

from server.cli.layout import visible

_HINTS = {
    "NO_LIMITS": "store limits: sizing portfolio limits PORTFOLIO --set examples/limits.toml",
    "PORTFOLIO_NOT_FOUND": "list them: sizing portfolio list; or make one: sizing portfolio create",
    "MARKET_SNAPSHOT_NOT_FOUND": "load one: sizing market load examples/market.csv --id NAME",
    "DECISION_NOT_FOUND": "list them: sizing decisions",
    "LIMITS_NOT_FOUND": "store some: sizing portfolio limits PORTFOLIO --set examples/limits.toml",
    "JOB_NOT_FOUND": "list them: sizing jobs list",
    "HISTORY_NOT_FOUND": "list them: sizing history list; or load one: sizing history load",
    "MATRIX_NOT_FOUND": "store one: sizing market matrix FILE --id NAME",
    "MATRIX_OF_UNIVERSE_NOT_FOUND": "estimate one: sizing correlation estimate UNIVERSE --id NAME",
    "MODEL_NOT_FOUND": "list them: sizing learn list, sizing learn schedule list",
    "MODEL_SCHEDULE_NOT_FOUND": "list them: sizing learn schedule list",
    "MODEL_NOT_LIVE": "see why: sizing learn show MODEL",
    "VOLATILITY_MODEL_NOT_FOUND": "list them: sizing volatility list",
    "FEATURE_SET_NOT_FOUND": "list them: sizing features list",
    "API_KEY_NOT_FOUND": "list them: sizing keys list",
    "WEBHOOK_NOT_FOUND": "list them: sizing webhooks list",
    "WEBHOOK_EVENT_NOT_FOUND": "list what was sent: sizing webhooks deliveries WEBHOOK",
    "GROUP_NOT_FOUND": "make it with its first portfolio: sizing portfolio create --group",
    "RESERVATION_NOT_FOUND": "list them: sizing portfolio reservations PORTFOLIO",
    "TRADING_HALTED": "see who and why: sizing state PORTFOLIO; go on: sizing portfolio resume",
    "PORTFOLIO_IN_USE": "trade what is held, and settle: sizing portfolio reservations PORTFOLIO",
    "PORTFOLIO_CLOSED": "make another: sizing portfolio create",
    "STALE_INPUT": "load newer data, or allow older in the sizing parameters",
    "MISSING_PRICE": "name a snapshot that has every instrument held (--snapshot), or load one: "
    "sizing market load",
    "MISSING_SPREAD": "add the column spread, a fraction of the price, to the market snapshot",
    "MISSING_MATRIX": "name one: --covariance or --scenarios; sizing market matrix stores them",
    "MISSING_VOLATILITY": "add the column volatility to the market snapshot, or drop the parameter",
    "REQUEST_ID_REUSED": "use a new --request-id for a new request",
    "ALREADY_EXISTS": "choose another id",
    "VERSION_CONFLICT": "somebody changed it meanwhile: look again and repeat",
    "UNAUTHENTICATED": "name a file with a token or key: --token-file FILE",
    "APPROVAL_REQUIRED": "somebody else: sizing approvals approve PROPOSAL",
    "OWN_PROPOSAL": "withdraw it: sizing approvals reject PROPOSAL",
    "PROPOSAL_NOT_FOUND": "list them: sizing approvals list --state all",
    "STORAGE_UNAVAILABLE": "run it in the project, or say where the data is: --data-dir FOLDER, or "
    "SIZING_DSN for a database of your own",
    "UNREACHABLE": "start the service: sizing serve; or name another: --address HOST:PORT",
}


class CommandError(Exception):
    """A command can't do what was asked; `hint` says what would help."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ToldError(Exception):
    """A call was refused; the problem says so in the words of the command that made it."""

    def __init__(self, problem: "Problem") -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True)
class Problem:
    """An error as it is shown."""

    message: str
    reason: str = "ERROR"
    code: str = ""
    fields: list[dict[str, str]] = field(default_factory=list)
    hint: str = ""
    exit_code: int = 1


def report(error: Exception, *, as_json: bool) -> int:
    """Writes the error to standard error; returns the exit code."""
    problem = problem_of(error)
    if as_json:
        shown = {k: v for k, v in vars(problem).items() if v and k != "exit_code"}
        print(json.dumps({"error": shown}), file=sys.stderr)
        return problem.exit_code
    lines = [f"error: {problem.message}"]
    lines += [f"  {note}" for note in getattr(error, "__notes__", ())]
    fields = problem.fields
    lines += [f"  {item.get('place', item['field'])}: {item['description']}" for item in fields]
    lines += [f"try:   {problem.hint}"] if problem.hint else []
    print(visible("\n".join(lines), lines=True), file=sys.stderr)
    return problem.exit_code


def problem_of(error: Exception) -> Problem:
    """What is to be said about an error.

    No module is imported to find out its kind: one that isn't there yet can't have raised it.
    """
    if isinstance(error, CommandError):
        return Problem(str(error), hint=error.hint)
    if isinstance(error, ToldError):
        return error.problem
    if _is(error, "server.config", "ConfigError"):
        hint = "sizing doctor lists all settings"
        return Problem(f"configuration: {error}", "CONFIGURATION", hint=hint, exit_code=2)
    if _is(error, "grpc", "RpcError"):
        return _of_call(error)
    if _is(error, "storage.errors", "StorageError"):
        reason = error.reason  # type: ignore[attr-defined]
        return Problem(str(error), reason, hint=_HINTS.get(reason, ""))
    if _is(error, "asyncpg", "UndefinedTableError") or _is(
        error, "asyncpg", "UndefinedColumnError"
    ):
        text = f"the database has no schema of this release: {error}"
        return Problem(
            text, "SCHEMA_MISMATCH", hint="sizing migrate; or is SIZING_DSN another one?"
        )
    if isinstance(error, OSError):
        return Problem(_system_words(error), "SYSTEM")
    hint = "the same command with --trace shows where; please report it"
    return Problem(f"unexpected {type(error).__name__}: {error}", "UNEXPECTED", hint=hint)


def _system_words(error: OSError) -> str:
    """The file and what is wrong with it, where the system says both."""
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"


def _is(error: Exception, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(error, getattr(loaded, name))


def _of_call(error: Any) -> Problem:
    """The google.rpc.Status of a failed call, in words."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    code, message = error.code().name, error.details() or "no details"
    status = rpc_status.from_call(error)
    if status is None:
        return _of_transport(code, message)
    reason, fields, hint = code, [], ""
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields = [
                {"field": item.field, "reason": item.reason, "description": item.description}
                for item in bad.field_violations
            ]
        elif detail.Unpack(retry):
            hint = f"again after {retry.retry_delay.ToMilliseconds()} ms"
    if len(fields) == 1:
        fields = []  # the message says it already
    return Problem(message, reason, code, fields, _HINTS.get(reason, hint))


def _of_transport(code: str, message: str) -> Problem:
    if code == "UNAVAILABLE":
        where = re.search(r"ipv[46]:(?:%5B)?([^\s;]+?):? ", message + " ")
        at = f" at {where[1]}" if where else ""
        hint = _HINTS["UNREACHABLE"]
        return Problem(f"no service answers{at}", "UNREACHABLE", code, hint=hint)
    if code == "UNIMPLEMENTED":
        return Problem("the service at this address is another one, or of another release", code)
    if code == "DEADLINE_EXCEEDED":
        hint = "give it longer: --timeout SECONDS"
        return Problem("no answer within the timeout", code, code, hint=hint)
    return Problem(f"{code}: {message}", code, code)
