"""`sizing demo`: a real book, sized by a real service over gRPC, from nothing to explained.

Starts an embedded PostgreSQL in a temporary folder and the service on a free port, does what the
files in `examples/` say, and cleans up. Only the compiled kernels stay, in the data folder.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.common import connect, console
from server.cli.errors import CommandError

if TYPE_CHECKING:
    from positionsizing.v1 import sizing_pb2
    from positionsizing.v1 import sizing_service_pb2 as pb
    from rich.console import Console

    from server.cli.layout import Table
    from server.client import Client

EXAMPLES = Path(__file__).parents[2] / "examples"
PORTFOLIO, STRATEGY = "demo", "momentum"
CASH = 40_000_000.0
STALLED_TIMEOUT_S = 300.0
"""A start that gets no further for so long has failed; a slow machine only takes its time."""
STOP_TIMEOUT_S = 30.0


def demo(
    as_of: Annotated[str, typer.Option(help="Date to size at, 2021 or 2022.")] = "2022-12-28",
    keep: Annotated[bool, typer.Option("--keep", help="Go on serving until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(help="Port; 0: any, 50051 with --keep.")] = 0,
    examples: Annotated[Path, typer.Option(help="Folder of the example book.")] = EXAMPLES,
) -> None:
    """Starts everything, sizes a real book over gRPC, explains it, and cleans up."""
    if not (examples / "prices.csv").exists():
        raise CommandError(f"no example book in {examples}", "run it in a checkout, or --examples")
    out = console()
    port = port or (50051 if keep else _free_port())
    signal.signal(signal.SIGTERM, _interrupted)  # clean up then too
    out.rule("Position Sizing Service: a tour")
    with _folder() as folder:
        book = _make_book(examples, folder, as_of)
        with _service(folder, port, out) as address, connect(address) as client:
            _tour(client, examples, book, as_of, out)
            if keep:
                _wait(address, out)
    _next_steps(keep, out)


def _tour(client: "Client", examples: Path, book: Path, as_of: str, out: "Console") -> None:
    """Loads the book, sizes it, and looks at the answer from several sides."""
    from server.cli import files, render
    from server.cli.decisions import replay_words
    from server.cli.sizing import show

    _load_book(client, examples, book, as_of, out)
    request = files.read_request(book / "signals.csv")
    request.request_id = str(uuid.uuid4())
    request.portfolio_id, request.strategy_id = PORTFOLIO, STRATEGY
    what_if = _what_if(client, request)
    decision = client.sizing.SizePositions(request).decision
    out.rule(f"{len(decision.sizes.instrument_ids)} signals sized")
    show(decision)
    out.print()
    out.print(render.totals_table(decision))
    out.rule("One line, in words")
    line = _most_changed(decision)
    out.print(render.line_table(decision, line))
    for sentence in render.line_words(decision, line):
        out.print(f"  {sentence}")
    out.rule("The same decision, computed again from its record")
    out.print(replay_words(decision.decision_id, _replayed(client, decision)))
    out.rule("What if: variations of the same request, nothing recorded")
    out.print(what_if)


def _load_book(client: "Client", examples: Path, book: Path, as_of: str, out: "Console") -> None:
    """Stores market snapshot, portfolio, limits and parameters."""
    from positionsizing.v1 import limits_pb2, market_service_pb2, parameter_service_pb2
    from positionsizing.v1 import portfolio_service_pb2 as portfolios

    from server.cli import files
    from server.cli.labels import money
    from server.cli.market import parse_time

    snapshot = files.read_market(book / "market.csv")
    snapshot.snapshot_id = f"{as_of}-close"
    snapshot.as_of_time.FromDatetime(parse_time(f"{as_of}T21:00", "--as-of"))
    client.market.PutMarketSnapshot(market_service_pb2.PutMarketSnapshotRequest(snapshot=snapshot))
    holdings = files.read_holdings(examples / "holdings.csv")
    portfolio = portfolios.Portfolio(
        portfolio_id=PORTFOLIO,
        display_name="Twenty large US companies",
        base_currency="USD",
        cash=CASH,
        holdings=holdings,
    )
    client.portfolios.CreatePortfolio(portfolios.CreatePortfolioRequest(portfolio=portfolio))
    limits = files.read_message(examples / "limits.toml", limits_pb2.Limits())
    scope = portfolios.Scope(portfolio_id=PORTFOLIO)
    stored = portfolios.SetLimitsRequest(scope=scope, limits=limits, reason="example")
    client.portfolios.SetLimits(stored)
    chosen = parameter_service_pb2.SizingParameters()
    files.read_message(examples / "parameters.toml", chosen)
    client.parameters.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            strategy_id=STRATEGY, parameters=chosen, reason="example"
        )
    )
    out.print(
        f"Market: {len(snapshot.instrument_ids)} closes of {as_of}. Portfolio: cash {money(CASH)}, "
        f"{len(holdings.instrument_ids)} holdings. Limits and parameters: "
        "examples/limits.toml, parameters.toml.\n"
        "Signals: mean daily return of the 252 days that ended before that date, with its "
        "standard error,\nand exponentially weighted volatility (examples/momentum.py).",
    )


def _most_changed(decision: "sizing_pb2.SizingDecision") -> int:
    """The line that most stages changed: the one with most to explain."""
    stages = decision.waterfall.stages

    def changes(line: int) -> int:
        weights = [stage.weight[line] for stage in stages]
        return sum(a != b for a, b in itertools.pairwise(weights))

    traded = [i for i, lots in enumerate(decision.sizes.trade_lots) if lots]
    return max(traded or range(len(decision.sizes.instrument_ids)), key=changes)


def _replayed(
    client: "Client", decision: "sizing_pb2.SizingDecision"
) -> "pb.ReplayDecisionResponse":
    from positionsizing.v1 import sizing_service_pb2 as pb

    wanted = pb.ReplayDecisionRequest(decision_id=decision.decision_id)
    return client.sizing.ReplayDecision(wanted)


def _what_if(client: "Client", request: "pb.SizePositionsRequest") -> "Table":
    """Variations of the request in one call, as a table."""
    from positionsizing.v1 import limits_pb2, parameter_service_pb2
    from positionsizing.v1 import sizing_service_pb2 as pb

    from server.cli.labels import percent
    from server.cli.render import table

    variations = [
        pb.Variation(name="half the edge", edge_multiplier=0.5),
        pb.Variation(name="prices 10 % lower", price_multiplier=0.9),
        pb.Variation(name="at most 4 % in one line", limits=limits_pb2.Limits(weight_max=0.04)),
        pb.Variation(
            name="a tenth of Kelly",
            parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.1),
        ),
    ]
    answer = client.sizing.WhatIf(pb.WhatIfRequest(base=request, variations=variations))
    rows = [("as it is", answer.base.summary)]
    rows += [(result.name, result.summary) for result in answer.results]
    shown = table("", "variation", "gross", "net", "turnover", left=("variation",))
    for name, summary in rows:
        gross, net = summary.gross_weight_after, summary.net_weight_after
        shown.add_row(name, percent(gross), percent(net), percent(summary.turnover))
    return shown


def _make_book(examples: Path, folder: Path, as_of: str) -> Path:
    """Runs the example's own script: signals and snapshot as of a date."""
    command = [
        sys.executable,
        str(examples / "momentum.py"),
        "--as-of",
        as_of,
        "--out",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(done.stderr.strip().splitlines()[-1])
    return folder


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder, removed at the end also where PostgreSQL's user owns parts of it."""
    folder = Path(tempfile.mkdtemp(prefix="sizing-demo-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _service(folder: Path, port: int, out: "Console") -> Iterator[str]:
    """PostgreSQL and the service as processes of their own, stopped at the end."""
    from storage import embedded

    with out.status("starting PostgreSQL"):
        server = embedded.start(folder / "postgres")
    try:
        with _process(server.dsn, folder / "service.log", port, out) as address:
            yield address
    finally:
        server.stop()


@contextlib.contextmanager
def _process(dsn: str, log: Path, port: int, out: "Console") -> Iterator[str]:
    address = f"127.0.0.1:{port}"
    settings = {
        "SIZING_DSN": dsn,
        "SIZING_LOG_JSON": "true",
        "SIZING_LISTEN_PORT": str(port),
        "SIZING_LISTEN_HOST": "127.0.0.1",
        "SIZING_AUTH": "off",
    }
    command = [sys.executable, "-m", "server.cli", "serve"]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, stderr=file, start_new_session=True
        )
    try:
        _await_serving(process, address, log, out)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_serving(
    process: "subprocess.Popen[bytes]", address: str, log: Path, out: "Console"
) -> None:
    """Waits until the service says SERVING, with a bar while it compiles."""
    from server.cli.progress import progress

    give_up, seen = time.monotonic() + STALLED_TIMEOUT_S, None
    with progress(out) as tell, connect(address) as client:
        tell("starting the service", 0, 0)
        while time.monotonic() < give_up and process.poll() is None:
            if client.is_serving_within(0.2):
                return
            compiled = _compiled(log)
            if compiled and compiled != seen:
                give_up, seen = time.monotonic() + STALLED_TIMEOUT_S, compiled
                tell("compiling what the start waits for, once on this machine", *compiled)
    said = [line for line in log.read_text().splitlines() if '"compiling kernels"' not in line]
    tail = "\n".join(said[-5:]) or f"it got no further for {STALLED_TIMEOUT_S:.0f} s"
    raise CommandError(f"the service did not start:\n{tail}", "sizing doctor")


def _compiled(log: Path) -> tuple[int, int] | None:
    """Of the programs that the start waits for, those compiled and all, from the service's log."""
    for line in reversed(log.read_text().splitlines()):
        if '"compiling kernels"' in line:
            with contextlib.suppress(ValueError):  # a line that is being written
                entry = json.loads(line)
                first = entry.get("of_first", entry["total"])
                return first - entry.get("serves_after", 0), first
    return None


def _wait(address: str, out: "Console") -> None:
    out.rule("Serving")
    out.print(
        f"The book stays loaded at {address} until Ctrl-C. In another terminal:\n"
        f"  .venv/bin/sizing size examples/bets.csv --portfolio {PORTFOLIO}\n"
        "  .venv/bin/sizing explain\n"
        f"  .venv/bin/sizing portfolio reservations {PORTFOLIO}\n"
        "  .venv/bin/sizing replay",
        soft_wrap=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def _next_steps(keep: bool, out: "Console") -> None:
    if keep:
        return
    out.rule("Next")
    out.print(
        "Everything is stopped and removed but the compiled kernels. Try\n"
        "  .venv/bin/sizing demo --keep                the same, left running to play with\n"
        "  .venv/bin/sizing demo --as-of 2021-06-30    another day\n"
        "  .venv/bin/sizing --help                     all commands; README.md has the rest",
        soft_wrap=True,
    )


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
