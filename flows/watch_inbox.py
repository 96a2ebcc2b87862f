"""Take what has come to rest in an inbox into the index: run it each minute."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.ingesting import MOST_CHUNKS, ingest
from flows.shared import failed, key_of, settings_for
from ingest.inbox import Inbox, Outcomes, hold
from ingest.sources import Archive
from radsearch.catalogue import catalogue_of
from radsearch.errors import RadSearchError, SettingsError
from radsearch.settings import Settings


@flow(
    name="watch-inbox",
    task_runner=ThreadPoolTaskRunner(max_workers=MOST_CHUNKS),  # type: ignore[arg-type]  # typed for one result type
    persist_result=False,
    validate_parameters=True,
)
def watch_inbox(  # noqa: PLR0913, PLR0917 -- a flow's parameters are what a deployment sets
    folder: Path,
    done: Path | None = None,
    quiet_seconds: int = 60,
    dataset: str | None = None,
    split: str | None = None,
    models: list[str] | None = None,
    index: str | None = None,
    state: Path | None = None,
    hours: float | None = None,
) -> State[Any]:
    """Take the series of an inbox that have been quiet for some time; all others, and faults that may pass, wait.

    Args:
        folder: the inbox, with all below it; a series is what one folder holds directly.
        done: where files go that were taken, to the same place below it, and refused ones to the same place below its
            `refused`. Without it they stay, and are taken again when they change.
        quiet_seconds: how long nothing in a series' folder may have changed.
        dataset: of the files.
        split: likewise.
        models: names; the default model where there is none.
        index: a folder or the address of a Qdrant server (default: RADSEARCH_INDEX).
        state: a folder for what is remembered between runs, of this inbox alone (default: `.radsearch-inbox` in it).
        hours: time limit; the next run goes on.
    """
    try:
        if quiet_seconds < 0:
            raise SettingsError("quiet_seconds is 0 or more")
        settings = settings_for(index)
        with hold(folder, done=done, state=state, catalogue=catalogue_of(settings)) as inbox:
            if inbox is None:
                return Completed(message="another run is at work on this inbox")
            ingestion = _Ingestion(inbox, settings, models or (), dataset, split, hours)
            visit = inbox.visit(quiet_seconds, ingestion.outcomes)
    except RadSearchError as error:
        return failed(error)
    if visit.series or visit.moved or visit.kept:  # most minutes leave nothing behind
        create_table_artifact(visit.rows(), key=key_of(["inbox", folder.name]), description=visit.line())
    return Failed(message=visit.line()) if visit.kept else Completed(message=visit.line())


@dataclass(frozen=True, slots=True)
class _Ingestion:
    inbox: Inbox
    settings: Settings
    models: Sequence[str]
    dataset: str | None
    split: str | None
    hours: float | None

    def outcomes(self, names: frozenset[str]) -> Outcomes:
        """Ingest these files; the report, which only its owner can read, says what became of each."""
        archive = Archive(self.inbox.folder, dataset=self.dataset, split=self.split, only=names)
        report = self.inbox.state / "last-ingest.json"
        ingest(archive, self.models, self.settings, report=report, hours=self.hours)
        told = json.loads(report.read_text(encoding="utf-8"))
        return [(file["file"], file["outcome"], file["reason"]) for file in told["files"]]
