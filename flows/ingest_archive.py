"""Take an archive into the index as a Prefect flow: the pipeline of `python -m ingest`, a task a chunk of files."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from ingest.pipeline import CHUNKS_IN_FLIGHT, Chunk, Ingestion
from ingest.report import Summary
from ingest.run import Run, begin
from ingest.sources import Archive
from radsearch.errors import IndexBusyError, IndexRefusedError, IndexUnreachableError, RadSearchError, exit_code
from radsearch.settings import Settings, load_settings

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

_RETRY_DELAYS_SECONDS = [2.0, 10.0, 30.0]
_MOST_CHUNKS = CHUNKS_IN_FLIGHT + 14  # on a machine with eight GPUs; the run itself says how many it wants
_PROGRESS_KEY = "ingest-progress"
_OUTCOMES_KEY = "ingest-outcomes"
_SUMMARY_KEY = "ingest-summary"


def _is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only the disk, the network and the index are worth another try: a bug stays a bug."""
    error = state.result(raise_on_failure=False)
    passing = (OSError, IndexUnreachableError, IndexBusyError)
    return isinstance(error, passing) and not isinstance(error, IndexRefusedError)


@task(
    retries=len(_RETRY_DELAYS_SECONDS),
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=_is_transient,
    task_run_name="chunk-{number}",
    cache_policy=NO_CACHE,
    persist_result=False,
    log_prints=False,
)
def ingest_chunk(ingestion: Ingestion, chunk: Chunk, number: int) -> int:  # noqa: ARG001 -- names the task run
    """Decode, embed and write one chunk; returns the number of images."""
    return ingestion.ingest_chunk(chunk)


@flow(
    name="ingest-archive",
    task_runner=ThreadPoolTaskRunner(max_workers=_MOST_CHUNKS),  # type: ignore[arg-type]  # typed for one result type
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
) -> State[Any]:
    """Take every DICOM, NIfTI, PNG and JPEG file below `path` into the index; see `python -m ingest --help`.

    The index is the truth: a run that was cut off is finished by running the flow again.
    Needs no Prefect server: without one, Prefect keeps the run's record in its own folder.
    """
    try:
        settings = load_settings()
        settings = replace(settings, index=index) if index else settings
        with begin(Archive(path, manifest, dataset, split), models or (), settings) as run:
            _run_chunks(run)
            summary = run.finish(report)
    except RadSearchError as error:
        return Failed(message=str(error))
    _write_artifacts(summary, settings)
    message = summary.lines()[0]
    return Failed(message=message) if summary.exit_code > 1 else Completed(message=message)


def _run_chunks(run: Run) -> None:
    total = run.archive.count(run.pseudonymizer)
    progress = create_progress_artifact(0.0, key=_PROGRESS_KEY, description=f"{total} files")
    assert isinstance(progress, UUID)  # noqa: S101 -- typed for callers in a coroutine too
    under_way: list[PrefectFuture[int]] = []

    def settle() -> None:
        under_way.pop(0).result()
        update_progress_artifact(progress, 100.0 * run.ingestion.accounts.done() / max(1, total))

    for chunks in run.ingestion.passes(lambda: run.archive.files(run.pseudonymizer)):
        for chunk in chunks:
            under_way.append(ingest_chunk.submit(run.ingestion, chunk, chunk.number))
            if len(under_way) >= run.ingestion.chunks_in_flight:
                settle()
        while under_way:
            settle()
    update_progress_artifact(progress, 100.0)


def _write_artifacts(summary: Summary, settings: Settings) -> None:
    rows = [{"outcome": "indexed", "reason": "", "files": summary.indexed}]
    rows.append({"outcome": "unchanged", "reason": "", "files": summary.unchanged})
    for outcome, reasons in (("skipped", summary.skipped), ("refused", summary.refused)):
        rows += [{"outcome": outcome, "reason": reason, "files": number} for reason, number in reasons.items()]
    create_table_artifact(rows, key=_OUTCOMES_KEY, description=f"{summary.found} files")
    models = ", ".join(model.model for model in summary.models)
    words = "\n".join(f"- {line.strip()}" for line in summary.lines())
    create_markdown_artifact(f"## {settings.index}\n\nModels: {models}\n\n{words}\n", key=_SUMMARY_KEY)


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
    options = parser.parse_args(arguments)
    return exit_code(lambda: _run_once(vars(options)))


def _run_once(parameters: dict[str, Any]) -> int:
    state = ingest_archive(**parameters, return_state=True)
    sys.stderr.write(f"{state.message}\n")
    return 0 if state.is_completed() else 2


if __name__ == "__main__":
    sys.exit(main())
