"""`python -m flows`: check the schedules, start them, or run one of their jobs now."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.settings import Job, load_schedules
from radsearch.errors import SettingsError, exit_code

_HEARTBEAT_SECONDS = "30"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 2 could not do it."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: int(options.run(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows", description="When ingests and evaluations run.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, words in (
        ("check", _check, "say what would run when"),
        ("serve", _serve, "start all schedules, and run what comes due, until it is ended"),
        ("run", _run, "run one job now"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("--settings", type=Path, required=True, metavar="FILE.toml", help="the schedules")
        command.set_defaults(run=run)
        if name == "run":
            command.add_argument("job", metavar="FLOW.NAME", help="as in the schedules: ingest.nightly")
    return parser


def _jobs(options: argparse.Namespace) -> tuple[Job, ...]:
    """The jobs; from now on Prefect may be imported."""
    schedules = load_schedules(options.settings)
    if schedules.server:
        os.environ["PREFECT_API_URL"] = schedules.server
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", _HEARTBEAT_SECONDS)
    return schedules.jobs


def _check(options: argparse.Namespace) -> int:
    from flows.serve import deployments_of
    from radsearch.commands import table

    jobs = _jobs(options)
    deployments_of(jobs)
    rows = [(f"{job.kind}.{job.name}", job.cron or "by hand", job.timezone) for job in jobs]
    print(table([("job", "cron", "timezone"), *rows]))  # noqa: T201 -- data goes to stdout
    return 0


def _serve(options: argparse.Namespace) -> int:
    jobs = _jobs(options)
    from flows.serve import serve_all

    serve_all(jobs, str(options.settings.resolve()))
    return 0


def _run(options: argparse.Namespace) -> int:
    jobs = _jobs(options)
    from flows.serve import flow_of, require_server

    wanted = [job for job in jobs if f"{job.kind}.{job.name}" == options.job]
    if not wanted:
        names = ", ".join(f"{job.kind}.{job.name}" for job in jobs)
        raise SettingsError(f"there is no job {options.job}; there are {names}")
    require_server()
    state: Any = flow_of(wanted[0])(**wanted[0].parameters, return_state=True)
    sys.stderr.write(f"{state.message}\n")
    return 0 if state.is_completed() else 2


if __name__ == "__main__":
    sys.exit(main())
