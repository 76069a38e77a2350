"""`sizing watch`: folders of files in, decisions as files out.

    FOLDER/prices[/UNIVERSE]/FILE               a market snapshot, of a universe
    FOLDER/fills/FILE                           executions, each booked once
    FOLDER/signals/PORTFOLIO[/STRATEGY]/FILE    signals, sized as one request
    FOLDER/decisions/...                        out: what was decided, as a table
    FOLDER/done/..., FOLDER/failed/...          files that were taken in, and those that were not

A file is taken in whole or not at all, but for executions. What it asks for has an id made of its
place, time and content, so that a file that was taken in but not yet moved away when the watcher
died asks for the same again, and gets the same answer.
"""

import contextlib
import csv
import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.common import DEFAULT_ADDRESS, Address, connect, say
from server.cli.errors import CommandError, problem_of

if TYPE_CHECKING:
    from positionsizing.v1 import sizing_pb2

    from server.client import Client

KINDS = ("prices", "fills", "signals")
"""In this order: what is held and what it is worth, before anything is sized."""
_UNFINISHED = (".tmp", ".part", ".error.csv")
_NAMESPACE = uuid.UUID("a3d0b6de-8c1b-4d0e-9a0a-4a5c0f6f9a55")
_ENTRY = re.compile(r"(?:signals|snapshot)\.(?P<column>\w+)\[(?P<place>\d+)\]")
_CELL = re.compile(r", (?P<where>\w+ \d+): (?P<column>\w+) ")
_AGAIN = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED")
_STOP = ("UNAUTHENTICATED", "UNIMPLEMENTED")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file, and where: a row as the file counts them, and a column."""

    where: str
    column: str
    reason: str
    message: str


class BadFileError(Exception):
    """A file that can't be taken in."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults[0].message)
        self.faults = faults


def watch(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Made where it is missing.")],
    once: Annotated[bool, typer.Option("--once", help="What is there now, then end.")] = False,
    poll_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    settle_s: Annotated[
        float, typer.Option(min=0.0, help="Leave files that were written to since so many seconds.")
    ] = 2.0,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Takes in files of prices, fills and signals as they come, and writes decisions as files.

    Put a file there under a name that ends in .part and rename it when it is whole. With --once the
    exit code is 1 where a file was put aside.
    """
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    with connect(address) as client:
        while True:
            n_failed = _look(client, folder, settle_s)
            if once:
                if n_failed:
                    raise typer.Exit(1)
                return
            time.sleep(poll_s)


def _look(client: "Client", folder: Path, settle_s: float) -> int:
    """Takes in what is there; how many files were put aside."""
    import grpc

    n_failed = 0
    for kind, file in _files(folder, settle_s):
        try:
            said = _TAKE[kind](client, folder, file)
        except BadFileError as error:
            n_failed += 1
            _put_aside(folder, file, error.faults)
            continue
        except CommandError as error:
            n_failed += 1
            _put_aside(folder, file, [_fault_of(str(error))])
            continue
        except FileNotFoundError:
            continue  # another watcher has it
        except grpc.RpcError as error:
            problem = problem_of(error)
            if problem.code in _STOP:
                raise
            if problem.code in _AGAIN:
                say(f"{file}: {problem.message}; it stays and is tried again")
                return n_failed
            n_failed += 1
            _put_aside(folder, file, _refused(file, problem.message, problem))
            continue
        _move(folder, file, "done")
        say(f"{file.relative_to(folder)}: {said}")
    return n_failed


def _files(folder: Path, settle_s: float) -> Iterator[tuple[str, Path]]:
    """Files that are whole, by kind and then by name."""
    before = time.time() - settle_s
    for kind in KINDS:
        for file in sorted((folder / kind).rglob("*")):
            is_hidden = file.name.startswith(".") or file.name.endswith(_UNFINISHED)
            with contextlib.suppress(FileNotFoundError):
                if not is_hidden and file.is_file() and file.stat().st_mtime <= before:
                    yield kind, file


def _prices(client: "Client", folder: Path, file: Path) -> str:
    from positionsizing.v1 import market_service_pb2 as pb

    from server.cli.files import read_market

    parts = file.parent.relative_to(folder / "prices").parts
    if len(parts) > 1:
        text = "prices belong into prices or prices/UNIVERSE"
        raise BadFileError([Fault("", "", "BAD_FORMAT", text)])
    snapshot = read_market(file)
    if parts and snapshot.universe_id not in ("", parts[0]):
        text = f"the file is of universe {snapshot.universe_id}, in the folder of {parts[0]}"
        raise BadFileError([Fault("", "universe_id", "CONTRADICTORY", text)])
    snapshot.universe_id = parts[0] if parts else snapshot.universe_id
    if not snapshot.HasField("as_of_time"):
        snapshot.as_of_time.FromDatetime(datetime.fromtimestamp(file.stat().st_mtime, UTC))
    if not snapshot.snapshot_id:
        name = re.sub(r"[^A-Za-z0-9._:-]", "-", file.name.partition(".")[0])[:90]
        snapshot.snapshot_id = f"{name}-{_id_of(folder, file).hex[:12]}"
    answer = client.market.PutMarketSnapshot(pb.PutMarketSnapshotRequest(snapshot=snapshot))
    jumps = f", {len(answer.price_jumps)} prices to confirm" if answer.price_jumps else ""
    return f"market snapshot {answer.snapshot_id}{jumps}"


def _fills(client: "Client", folder: Path, file: Path) -> str:
    from server.cli.imports import book

    del folder
    booked, unbooked = book(client, file, is_fix=file.suffix.lower() in (".fix", ".log"))
    if unbooked:
        raise BadFileError(
            [
                Fault(item.where, "", item.reason, f"execution {item.execution_id}: {item.message}")
                for item in unbooked
            ]
        )
    return f"{booked} executions booked, or booked before"


def _signals(client: "Client", folder: Path, file: Path) -> str:
    from server.cli.files import read_request

    parts = file.parent.relative_to(folder / "signals").parts
    if not 1 <= len(parts) <= 2:
        text = "signals belong into signals/PORTFOLIO or signals/PORTFOLIO/STRATEGY"
        raise BadFileError([Fault("", "", "NO_PORTFOLIO", text)])
    request = read_request(file)
    request.portfolio_id = parts[0]
    request.strategy_id = parts[1] if len(parts) == 2 else request.strategy_id
    request.request_id = str(_id_of(folder, file))
    request.all_or_nothing = True
    decision = client.sizing.SizePositions(request).decision
    _write(folder / "decisions" / file.relative_to(folder / "signals"), decision)
    return f"decision {decision.decision_id}"


_TAKE = {"prices": _prices, "fills": _fills, "signals": _signals}


def _id_of(folder: Path, file: Path) -> uuid.UUID:
    """The same for the same file, another for one that is put there later, like as it may be."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    place = file.relative_to(folder).as_posix()
    return uuid.uuid5(_NAMESPACE, f"{place} {file.stat().st_mtime_ns} {digest}")


def _write(target: Path, decision: "sizing_pb2.SizingDecision") -> None:
    """The lines of a decision, as Parquet where the signals were, else as CSV."""
    import polars as pl

    table = pl.DataFrame(_table(decision))
    target.parent.mkdir(parents=True, exist_ok=True)
    is_parquet = target.suffix.lower() in (".parquet", ".pq")
    name = target.name if is_parquet else target.name.partition(".")[0] + ".csv"
    unfinished = target.with_name(f".{name}.part")
    if is_parquet:
        table.write_parquet(unfinished)
    else:
        table.write_csv(unfinished)
    unfinished.rename(target.with_name(name))


def _table(decision: "sizing_pb2.SizingDecision") -> Mapping[str, Any]:
    from positionsizing.v1 import types_pb2

    sizes, n = decision.sizes, len(decision.sizes.instrument_ids)
    status, kind = types_pb2.LineStatus, types_pb2.LimitKind
    binding = [kind.Name(item).removeprefix("LIMIT_KIND_") for item in sizes.binding]
    return {
        "decision_id": [decision.decision_id] * n,
        "portfolio_id": [decision.portfolio_id] * n,
        "strategy_id": [decision.strategy_id] * n,
        "create_time": [decision.create_time.ToJsonString()] * n,
        "instrument_id": list(sizes.instrument_ids),
        "status": [status.Name(item).removeprefix("LINE_STATUS_") for item in sizes.line_status],
        "lots": list(sizes.lots),
        "trade_lots": list(sizes.trade_lots),
        "lot_size": list(sizes.lot_size),
        "quantity": list(sizes.quantity),
        "price": list(sizes.price),
        "weight": list(sizes.weight),
        "notional": list(sizes.notional),
        "binding": binding or [""] * n,
    }


def _refused(file: Path, message: str, problem: Any) -> list[Fault]:
    """What the service refuses, by rows and columns of the file."""
    from server.cli.files import place_of

    fields = problem.fields or [{"field": message, "reason": problem.reason, "description": ""}]
    faults = []
    for item in fields:
        found = _ENTRY.search(item["field"])
        where = place_of(file, int(found["place"])).removeprefix(f"{file.name} ") if found else ""
        text = item["description"] or message
        faults.append(Fault(where, found["column"] if found else "", item["reason"], text))
    return faults


def _fault_of(message: str) -> Fault:
    found = _CELL.search(message)
    where, column = (found["where"], found["column"]) if found else ("", "")
    return Fault(where, column, "BAD_FILE", message)


def _put_aside(folder: Path, file: Path, faults: list[Fault]) -> None:
    """The file to `failed`, with what is wrong beside it."""
    with contextlib.suppress(FileNotFoundError):
        target = _move(folder, file, "failed")
        with target.with_name(target.name + ".error.csv").open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(("where", "column", "reason", "message"))
            writer.writerows((f.where, f.column, f.reason, f.message) for f in faults)
    say(f"{file.relative_to(folder)}: put aside: {faults[0].message}")


def _move(folder: Path, file: Path, to: str) -> Path:
    """Under a name that nothing has there yet."""
    target = folder / to / file.relative_to(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        target = target.with_name(f"{now}-{target.name}")
    os.rename(file, target)
    return target
