"""The command line of the Position Sizing Service.

Commands import what they need when they run, so that `sizing --help` is fast.
"""

import inspect
import io
import itertools
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli import (
    analytics,
    archive,
    backup,
    decisions,
    demo,
    doctor,
    explained,
    gateway,
    kelly,
    methods,
    optimize,
    portfolio_limits,
    portfolio_money,
    profile,
    recover,
    retention,
    server,
    service,
    settle,
    simulate,
    sizing,
    state,
    topic_grants,
    trials,
    tune,
    watch,
    what_if,
    what_if_decision,
)
from server.cli.action import action
from server.cli.algorithms import algorithm, algorithms
from server.cli.approvals import approvals
from server.cli.audit import audit
from server.cli.common import TIMEOUT_S, set_credentials, set_timeout
from server.cli.condition import condition
from server.cli.correlation import correlation
from server.cli.errors import report
from server.cli.features import features
from server.cli.history import history
from server.cli.imports import imports
from server.cli.jobs import jobs
from server.cli.keys import keys
from server.cli.learn import learn
from server.cli.learn_calibrate import calibrate
from server.cli.learn_mix import mix
from server.cli.learn_schedules import schedule
from server.cli.liquidity import execution, liquidity
from server.cli.market import market
from server.cli.parameters import parameters
from server.cli.portfolio import portfolio
from server.cli.risk import risk
from server.cli.secrets import secrets
from server.cli.volatility import volatility
from server.cli.webhooks import webhooks


class _App(typer.Typer):
    """Exit code 0: done; 1: an error, said in words; 2: wrong usage."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command that the arguments, or else `sys.argv`, name."""
        words = _globals_first(list(args[0]) if args else sys.argv[1:])
        # gRPC would write of its own connection attempts among our words.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names that its encoding lacks are no error
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().__call__(words, *args[1:], **kwargs)
        except Exception as error:
            if "--trace" in words:
                raise
            sys.exit(report(error, as_json="--json" in words))


_WITH_VALUE = ("--timeout", "--token-file", "--ca-file", "--cert-file", "--key-file")


def _globals_first(words: list[str]) -> list[str]:
    """Options of every command may stand anywhere; typer wants them before the command."""
    first, rest, taken = [], [], iter(words)
    for word in taken:
        if word == "--":
            rest += [word, *taken]
        elif word == "--trace" or (word.partition("=")[0] in _WITH_VALUE and "=" in word):
            first.append(word)
        elif word in _WITH_VALUE:
            first += [word, *itertools.islice(taken, 1)]
        else:
            rest.append(word)
    return first + rest


app = _App(
    no_args_is_help=True,
    help="Position Sizing Service: growth-optimal sizes inside every limit. "
    "Times without a zone are UTC. "
    "--timeout, --token-file, --ca-file and --trace may also stand behind a command.",
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from server.version import VERSION

        typer.echo(f"sizing {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    trace: Annotated[bool, typer.Option("--trace", help="Show where an error came from.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.001, max=86400, help="Longest wait for an answer, seconds.")
    ] = TIMEOUT_S,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="SIZING_TOKEN_FILE", help="File with the token or key to show."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="SIZING_CA_FILE", help="Connect with TLS; the service's certificates (PEM)."
        ),
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(envvar="SIZING_CERT_FILE", help="Own certificate (PEM).")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(envvar="SIZING_KEY_FILE", help="Key of it (PEM).")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say it.")
    ] = False,
) -> None:
    del trace, version  # read by `_App`, and said by then
    set_timeout(timeout)
    set_credentials(token_file, ca_file=ca_file, cert_file=cert_file, key_file=key_file)


for command in (
    service.serve,
    demo.demo,
    sizing.size,
    decisions.explain,
    decisions.replay,
    explained.diff,
    decisions.decisions,
    settle.settle,
    what_if.whatif,
    what_if_decision.whatif_decision,
    profile.profile,
    state.state,
    kelly.kelly,
    methods.methods,
    optimize.optimize,
    optimize.frontier,
    simulate.backtest,
    simulate.simulate,
    tune.tune,
    trials.trials,
    analytics.performance,
    archive.archive,
    archive.report,
    retention.retention,
    algorithms,
    gateway.gateway,
    service.migrate,
    backup.backup,
    backup.restore,
    recover.recover,
    watch.watch,
    service.health,
    server.server,
    server.usage,
    doctor.doctor,
):
    app.command()(command)
for more in (portfolio_limits.commands, portfolio_money.commands):
    portfolio.add_typer(more)
app.add_typer(portfolio, name="portfolio")
app.add_typer(action, name="action")
app.add_typer(market, name="market")
app.add_typer(history, name="history")
app.add_typer(condition, name="condition")
app.add_typer(features, name="features")
app.add_typer(volatility, name="volatility")
app.add_typer(correlation, name="correlation")
risk.command()(liquidity)
risk.command()(execution)
app.add_typer(risk, name="risk")
learn.add_typer(schedule, name="schedule")
learn.command()(calibrate)
learn.command()(mix)
app.add_typer(learn, name="learn")
app.add_typer(parameters, name="parameters")
for command in (topic_grants.grant, topic_grants.revoke, topic_grants.grants):
    service.topics.command()(command)
app.add_typer(service.topics, name="topics")
app.add_typer(imports, name="import")
app.add_typer(jobs, name="jobs")
app.add_typer(keys, name="keys")
app.add_typer(secrets, name="secrets")
app.add_typer(approvals, name="approvals")
app.add_typer(audit, name="audit")
app.add_typer(algorithm, name="algorithm")
app.add_typer(webhooks, name="webhooks")


def _flow(commands: typer.Typer) -> None:
    """Help is wrapped by the terminal alone; typer keeps the line ends of our source."""
    for command in commands.registered_commands:
        paragraphs = inspect.cleandoc(command.help or inspect.getdoc(command.callback) or "")
        command.help = "\n\n".join(" ".join(part.split()) for part in paragraphs.split("\n\n"))
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _flow(group.typer_instance)


_flow(app)
