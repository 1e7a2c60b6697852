"""The ``corequote`` command, the outermost layer: arguments become calls, errors become exit codes.

What ``run`` has no use for is imported where it is used: nothing is quoted while an engine that starts
again still imports.

Exit codes, the same for every command: 0 done; 1 not everything ended well; 2 usage; 3 nothing
runs; 78 the configuration, or something it names, cannot be used (starting again will not help).
"""

from __future__ import annotations

import sys
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated

import typer

from engine import (
    cli_audit,
    cli_config,
    cli_market,
    config,
    config_view,
    rundir,
    supervisor,
    valkey,
)
from engine.arena import ArenaError
from engine.config import EXIT_CONFIG, EXIT_USAGE, ConfigError
from engine.terminal import EXIT_NOT_RUNNING, RunDirOption, fail, print_line, the_run

app = typer.Typer(
    name="corequote",
    help="Market-making engine for binary prediction markets.",
    epilog="Exit codes: 0 done, 1 not everything ended well, 2 usage, 3 nothing runs, 78 configuration.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(cli_config.app, name="config")
app.command()(cli_market.kill)
for command in (cli_market.resume, cli_market.start, cli_market.stop, cli_market.fund, cli_market.withdraw):
    app.command()(command)
app.command("audit")(cli_audit.audit_command)


@app.command()
def run(
    config_file: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="TOML file; config/production.toml explains every setting."),
    ],
    run_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Private directory (0700) for sockets, logs and the effective configuration; overrides "
            "engine.run_dir. Without either, a fresh one, removed again after a clean stop.",
        ),
    ] = None,
) -> None:
    """Run the engine in the foreground against the exchange that CONFIG names.

    Ctrl-C or SIGTERM withdraws every quote, waits until the exchange shows no order of ours, stops all
    processes and exits.

    Exit codes: 0 clean stop; 1 a process had to be killed, or the last sweep of orders was not confirmed;
    2 usage; 78 configuration.
    """
    try:
        loaded = config.load(config_file)
        configured = run_dir or (Path(loaded.engine.run_dir) if loaded.engine.run_dir else None)
        directory = rundir.RunDirectory.claim(configured)
    except (ConfigError, rundir.RunDirError) as error:
        raise fail(error, EXIT_CONFIG) from None
    code = EXIT_CONFIG
    try:
        code = supervisor.Supervisor(loaded, directory, console=print_line).run()
    except (ConfigError, ArenaError, valkey.ValkeyError) as error:
        raise fail(error, EXIT_CONFIG) from None
    finally:
        directory.release(remove=code == supervisor.EXIT_OK)
    raise typer.Exit(code)


@app.command()
def status(
    run_dir: RunDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON document.")] = False,
) -> None:
    """Show a running engine: its processes and its markets.

    Exit codes: 0 an engine runs; 2 several run and none was chosen; 3 nothing runs.
    """
    from engine import status_view  # noqa: PLC0415

    try:
        chosen = the_run(run_dir)
        report = status_view.collect(chosen)
    except (rundir.RunDirError, ArenaError) as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    if as_json:
        sys.stdout.buffer.write(status_view.as_json(report) + b"\n")
    else:
        status_view.show(report)


@app.command()
def explain(
    market: Annotated[str, typer.Argument(metavar="MARKET", help="The market's id.")],
    run_dir: RunDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON document.")] = False,
) -> None:
    """Show why a market quotes what it quotes: every step from inputs to prices, with its section.

    Exit codes: 0 shown; 2 no such market, or several engines run; 3 nothing runs.
    """
    from engine import explain_view  # noqa: PLC0415

    try:
        explanation = explain_view.collect(the_run(run_dir), market)
    except (rundir.RunDirError, ArenaError) as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    except config_view.UnknownMarketError as error:
        raise fail(error, EXIT_USAGE) from None
    if as_json:
        sys.stdout.buffer.write(explain_view.as_json(explanation) + b"\n")
    else:
        explain_view.show(explanation)


@app.command()
def report(
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Which run, live or ended; default: the one that runs.")
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A kpi.json that was kept, instead of a run."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON document.")] = False,
) -> None:
    """Show how well a run quoted: presence, spreads, markouts, PnL, by market, day and phase.

    The figures are those of the recorder, at most five seconds old while the engine runs.

    Exit codes: 0 shown; 2 several engines run and none was chosen, or both sources were; 3 nothing runs,
    or nothing was recorded.
    """
    from engine import kpi_file, report_view  # noqa: PLC0415

    if run_dir is not None and from_file is not None:
        raise fail("--run-dir and --from name two sources, give one", EXIT_USAGE)
    try:
        document = kpi_file.load(from_file or the_run(run_dir))
    except kpi_file.KpiFileError as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    if as_json:
        report_view.write_json(document)
    else:
        report_view.show(document)


oracle_app = typer.Typer(help="An operator's oracle price of a market.", no_args_is_help=True)
app.add_typer(oracle_app, name="oracle")

_Market = Annotated[str, typer.Argument(metavar="MARKET", help="The market's id.")]


@oracle_app.command("set")
def oracle_set(
    market: _Market,
    price: Annotated[int, typer.Argument(metavar="PRICE", help="YES price in cents, 1..99.")],
    ttl: Annotated[float, typer.Option(metavar="SECONDS", help="How long it holds, 1..86400.")] = 900.0,
    run_dir: RunDirOption = None,
) -> None:
    """Say what a market is worth; its oracle must be `operator`. The engine takes it up within a second.

    Exit codes: 0 written; 2 usage; 3 nothing runs; 78 Redis cannot be reached, or the market's oracle is
    another one.
    """
    _oracle(run_dir, market, price, ttl)


@oracle_app.command("clear")
def oracle_clear(market: _Market, run_dir: RunDirOption = None) -> None:
    """Take the price back: the market has no oracle value until the next `set`.

    Exit codes: 0 cleared; 2 usage; 3 nothing runs; 78 Redis cannot be reached, or the market's oracle is
    another one.
    """
    _oracle(run_dir, market, None, 0.0)


def _oracle(run_dir: Path | None, market: str, price_cents: int | None, ttl_s: float) -> None:
    from engine import oracle_operator  # noqa: PLC0415
    from engine.oracle_store import OracleValueError  # noqa: PLC0415

    try:
        line = oracle_operator.say(the_run(run_dir), market, price_cents=price_cents, ttl_s=ttl_s)
    except OracleValueError as error:
        raise fail(error, EXIT_USAGE) from None
    except rundir.RunDirError as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    except ConfigError as error:
        raise fail(error, EXIT_CONFIG) from None
    print_line(line)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def paper(context: typer.Context) -> None:
    """Run the paper exchange: REST and WebSocket to trade against (`corequote paper --help`)."""
    from engine.paper.__main__ import main as paper_main  # noqa: PLC0415

    raise typer.Exit(paper_main(context.args))


@app.command()
def demo(
    seconds: Annotated[
        float | None,
        typer.Option(help="Stop this long after the last market's first quote; default: Ctrl-C."),
    ] = None,
    markets: Annotated[int | None, typer.Option(help="How many markets (default 3; 1 with --feed).")] = None,
    feed: Annotated[
        str | None, typer.Option(metavar="betfair:FILE", help="Replay a recorded match as the others.")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="inplay|start", help="Where in the recording to begin.")
    ] = "inplay",
    speed: Annotated[float, typer.Option(help="Divides the recording's waits.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulated traders.")] = 1,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was measured as JSON.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Private directory (0700); default: a fresh one.")
    ] = None,
) -> None:
    """Run paper exchange, simulated traders and engine, and show what happens.

    A live view on a terminal; progress lines with --seconds or --report. At the end every order is
    cancelled, and stock and cash are compared with the exchange's books.

    Exit codes: 0 all is well; 1 something is not, and is named; 2 usage; 78 the feed or the directory
    cannot be used.
    """
    from engine import demo as play  # noqa: PLC0415

    options = play.DemoOptions(
        seconds=seconds,
        markets=markets,
        feed=feed,
        start=start,
        speed=speed,
        seed=seed,
        report=report,
        run_dir=run_dir,
    )
    raise typer.Exit(play.run(options))


@app.command()
def version() -> None:
    """Print the version and the layout of shared memory this build speaks."""
    from engine import status_view  # noqa: PLC0415

    print(f"corequote {distribution_version('corequote')} (arena layout {status_view.layout()})")


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
