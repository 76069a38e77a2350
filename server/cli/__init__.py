"""The command line of the Position Sizing Service.

Commands import what they need when they run, so that `sizing --help` is fast.
"""

import os
import sys
from typing import Annotated, Any

import typer

from server.cli import analytics, demo, doctor, optimize, service, simulate, sizing
from server.cli.errors import report
from server.cli.history import history
from server.cli.market import market
from server.cli.parameters import parameters
from server.cli.portfolio import portfolio


class _App(typer.Typer):
    """Exit code 0: done; 1: an error, said in words; 2: wrong usage."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command that the arguments, or else `sys.argv`, name."""
        words = args[0] if args else sys.argv
        # gRPC would write of its own connection attempts among our words.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        try:
            return super().__call__(*args, **kwargs)
        except Exception as error:
            if "--trace" in words:
                raise
            sys.exit(report(error, as_json="--json" in words))


app = _App(
    no_args_is_help=True,
    add_completion=False,
    help="Position Sizing Service: growth-optimal sizes inside every limit.",
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(
    trace: Annotated[bool, typer.Option("--trace", help="Show where an error came from.")] = False,
) -> None:
    del trace  # read by `_App`


for command in (
    service.serve,
    demo.demo,
    sizing.size,
    sizing.explain,
    sizing.replay,
    sizing.decisions,
    sizing.settle,
    optimize.optimize,
    optimize.frontier,
    simulate.backtest,
    simulate.simulate,
    analytics.performance,
    service.migrate,
    service.health,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(portfolio, name="portfolio")
app.add_typer(market, name="market")
app.add_typer(history, name="history")
app.add_typer(parameters, name="parameters")
app.add_typer(service.topics, name="topics")
