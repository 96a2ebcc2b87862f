"""What is run when: one TOML file. A table a job, named by its flow and a name of the user's; keys are parameters.

Imports no Prefect: the server's address has to be in the environment before that is done.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radsearch.errors import SettingsError

# Kind of a job -> module and name of its flow.
FLOWS = {
    "ingest": ("flows.ingest_archive", "ingest_archive"),
    "inbox": ("flows.watch_inbox", "watch_inbox"),
    "add-model": ("flows.add_model", "add_model"),
    "evaluate": ("flows.evaluate_models", "evaluate_models"),
    "maintain": ("flows.maintain", "maintain"),
}


_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Job:
    """A flow with its parameters. cron: when; None for a job that is only started by hand. timezone: of the cron."""

    kind: str
    name: str
    parameters: Mapping[str, Any]
    cron: str | None = None
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Schedules:
    """server: the Prefect API's address; None for what Prefect itself is set to."""

    jobs: tuple[Job, ...]
    server: str | None = None


def load_schedules(file: Path) -> Schedules:
    """Read the jobs; whether their parameters are a flow's is known later, by the flow.

    Raises:
        SettingsError: the file cannot be read, or does not have this form.
    """
    try:
        stated = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the schedules {file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or nested too deep
        raise SettingsError(f"the schedules {file} are no TOML: {error}") from error
    server = _text(stated, "server", file, None)
    unknown = sorted(set(stated) - set(FLOWS) - {"server"})
    if unknown:
        raise SettingsError(f"{file}: {unknown[0]} is no flow; there are {', '.join(FLOWS)}")
    jobs = tuple(_job(kind, name, table, file) for kind in FLOWS for name, table in _tables(stated, kind, file))
    if not jobs:
        raise SettingsError(f"{file} names no job")
    return Schedules(jobs, server)


def _tables(stated: Mapping[str, Any], kind: str, file: Path) -> list[tuple[str, dict[str, Any]]]:
    tables = stated.get(kind, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingsError(f"{file}: a job has a name: [{kind}.NAME]")
    return list(tables.items())


def _job(kind: str, name: str, table: Mapping[str, Any], file: Path) -> Job:
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{file}: a job's name is of letters, digits, points, dashes and underscores, not {name!r}")
    cron = _text(table, "cron", file, None)
    timezone = _text(table, "timezone", file, "UTC")
    parameters = {key: value for key, value in table.items() if key not in ("cron", "timezone")}
    return Job(kind, name, parameters, cron, timezone or "UTC")


def _text(table: Mapping[str, Any], key: str, file: Path, default: str | None) -> str | None:
    value = table.get(key, default)
    if value is not None and not isinstance(value, str):
        raise SettingsError(f"{file}: {key} is a text in quotes")
    return value
