"""Take an archive into the index as Prefect flows: all of it in one run, or in parts that many workers share."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.ingesting import MOST_CHUNKS, ingest
from flows.partitions import Partitions
from flows.shared import failed, settings_for
from ingest.sources import Archive
from radsearch.errors import RadSearchError, SettingsError, exit_code

_A_WEEK_SECONDS = 7 * 24 * 3600.0  # parts take turns at an index in a folder


@flow(
    name="ingest-archive",
    task_runner=ThreadPoolTaskRunner(max_workers=MOST_CHUNKS),  # type: ignore[arg-type]  # typed for one result type
    persist_result=False,
    validate_parameters=True,
)
def ingest_archive(  # noqa: PLR0913, PLR0917 -- a flow's parameters are what a deployment sets
    path: Path,
    manifest: Path | None = None,
    dataset: str | None = None,
    split: str | None = None,
    models: list[str] | None = None,
    index: str | None = None,
    report: Path | None = None,
    hours: float | None = None,
    partitions: int = 1,
) -> State[Any]:
    """Take every DICOM, NIfTI, PNG and JPEG file below `path` into the index; see `python -m ingest --help`.

    The index is the truth: a run that was cut off is finished by running the flow again.
    Needs no Prefect server: without one, Prefect keeps the run's record in its own folder.

    Args:
        path: a folder, taken with all below it, or a file.
        manifest: a CSV that says which files are taken, and what they show.
        dataset: of the files that the manifest names none for.
        split: likewise.
        models: names; the default model where there is none.
        index: a folder or the address of a Qdrant server (default: RADSEARCH_INDEX).
        report: where a JSON report goes; of parts, with the part's number in its name.
        hours: time limit; the next run goes on.
        partitions: parts that are flow runs of their own, of the deployment `ingest-partition` with this one's name.
            Without a deployment they are run one after the other.
    """
    of_parts = {
        "path": str(path),
        "manifest": None if manifest is None else str(manifest),
        "dataset": dataset,
        "split": split,
        "models": models,
        "index": index,
        "report": None if report is None else str(report),
        "hours": hours,
    }
    try:
        if partitions < 1:
            raise SettingsError("partitions is 1 or more")
        settings = settings_for(index)
        if partitions == 1:
            archive = Archive(path, manifest, dataset, split)
            return ingest(archive, models or (), settings, report=report, hours=hours).state(hours)
        if deployment.name:
            return Partitions(f"{ingest_partition.name}/{deployment.name}", of_parts, partitions).run()
    except RadSearchError as error:
        return failed(error)
    states = [
        ingest_partition(**of_parts, part=part, parts=partitions, return_state=True)
        for part in range(1, partitions + 1)
    ]
    undone = [state for state in states if not state.is_completed()]
    if undone:
        return Failed(message=f"{len(undone)} of {partitions} parts were not completed; {undone[0].message}")
    return Completed(message=f"{partitions} parts completed")


@flow(
    name="ingest-partition",
    task_runner=ThreadPoolTaskRunner(max_workers=MOST_CHUNKS),  # type: ignore[arg-type]  # typed for one result type
    persist_result=False,
    validate_parameters=True,
)
def ingest_partition(  # noqa: PLR0913, PLR0917 -- a flow's parameters are what a deployment sets
    path: Path,
    part: int,
    parts: int,
    manifest: Path | None = None,
    dataset: str | None = None,
    split: str | None = None,
    models: list[str] | None = None,
    index: str | None = None,
    report: Path | None = None,
    hours: float | None = None,
) -> State[Any]:
    """Take one part of an archive in: each file is in one part, whatever worker takes it.

    Parts write side by side to a server, and take turns at an index in a folder.
    """
    try:
        settings = settings_for(index)
        settings = replace(settings, busy_wait_seconds=max(settings.busy_wait_seconds, _A_WEEK_SECONDS))
        archive = Archive(path, manifest, dataset, split, part=(part, parts))
        own = report and report.with_name(f"{report.stem}.{part}-of-{parts}{report.suffix}")
        return ingest(archive, models or (), settings, report=own, hours=hours).state(hours, whole=False)
    except RadSearchError as error:
        return failed(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m flows.ingest_archive PATH ...`: one run of the flow, now."""
    parser = argparse.ArgumentParser(prog="python -m flows.ingest_archive", description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH")
    parser.add_argument("--manifest", type=Path, metavar="CSV")
    parser.add_argument("--dataset", metavar="NAME")
    parser.add_argument("--split", metavar="NAME")
    parser.add_argument("--model", action="append", dest="models", metavar="NAME")
    parser.add_argument("--index", metavar="DIR|URL")
    parser.add_argument("--report", type=Path, metavar="FILE.json")
    parser.add_argument("--hours", type=float, metavar="H", help="time limit")
    parser.add_argument("--partitions", type=int, default=1, metavar="N", help="parts, one after the other")
    options = parser.parse_args(arguments)
    return exit_code(lambda: _run_once(vars(options)))


def _run_once(parameters: dict[str, Any]) -> int:
    state = ingest_archive(**parameters, return_state=True)
    sys.stderr.write(f"{state.message}\n")
    return 0 if state.is_completed() else 2


if __name__ == "__main__":
    sys.exit(main())
