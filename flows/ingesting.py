"""The pipeline of `python -m ingest` inside of a flow run: a task a chunk of files, artifacts, time limits, turns."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Completed, Failed

from flows.shared import is_transient, nameless, retry_if_transient
from ingest.pipeline import CHUNKS_IN_FLIGHT, Chunk, Ingestion
from ingest.report import Summary
from ingest.run import Run, begin
from ingest.sources import Archive
from radsearch.errors import IndexBusyError, IndexUnreachableError, RadSearchError, SettingsError
from radsearch.models.devices import expected_gpus
from radsearch.settings import Settings, without_credentials

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

MOST_CHUNKS = CHUNKS_IN_FLIGHT + 14  # on a machine with eight GPUs; the run itself says how many it wants
_RETRY_DELAYS_SECONDS = [2.0, 10.0, 30.0]
_PROGRESS_KEY = "ingest-progress"
_OUTCOMES_KEY = "ingest-outcomes"
_SUMMARY_KEY = "ingest-summary"
_PROGRESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest came to. in_time: False where its time limit ended it before the last file."""

    summary: Summary
    in_time: bool

    def state(self, hours: float | None, *, whole: bool = True) -> State[Any]:
        """The flow run's state, with the figures as its message.

        A whole archive of which nothing could be taken in has failed; of a part of one that says nothing.
        """
        figures = self.summary.lines()[0]
        if not self.in_time:
            return Failed(message=f"the time limit of {hours:g} h was reached, the next run goes on; {figures}")
        nothing = whole and self.summary.exit_code > 1
        return Failed(message=figures) if nothing else Completed(message=figures)


@task(
    retries=len(_RETRY_DELAYS_SECONDS),
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=retry_if_transient,
    task_run_name="chunk-{number}",
    cache_policy=NO_CACHE,
    persist_result=False,
    log_prints=False,
)
def ingest_chunk(ingestion: Ingestion, chunk: Chunk, number: int) -> int:  # noqa: ARG001 -- names the task run
    """Decode, embed and write one chunk; returns the number of images."""
    try:
        return ingestion.ingest_chunk(chunk)
    except RadSearchError:
        raise
    except Exception as error:  # noqa: BLE001 -- any: Prefect keeps what a task raises, with all its words
        raise nameless(error) from None


def ingest(
    archive: Archive,
    models: Sequence[str],
    settings: Settings,
    *,
    report: Path | None = None,
    hours: float | None = None,
) -> Ingested:
    """Take an archive in, from inside a flow run; the index is the truth, so that the next run goes on after any end.

    Args:
        archive: what is taken in.
        models: names; the default model where there is none.
        settings: of index, device and reading.
        report: where the JSON report goes.
        hours: no chunk is begun after these.

    Raises:
        RadSearchError: an unknown model, missing weights, no such path, an index that stays busy or out of reach, a
            disk that fails again and again.
    """
    deadline = None if hours is None else time.monotonic() + 3600 * hours
    try:
        with ExitStack() as stack:
            stack.enter_context(_turn_on_gpu(settings, hours))
            run = _begun(lambda: stack.enter_context(begin(archive, models, settings)))
            in_time = _run_chunks(run, deadline)
            summary = run.finish(report, in_time=in_time)
    except OSError as error:
        words = error.strerror or type(error).__name__
        raise SettingsError(f"the run was ended by the disk or the network ({words}); the next one goes on") from None
    except httpx.TransportError as error:
        raise SettingsError(
            f"Prefect's server does not answer ({type(error).__name__}); the next run goes on"
        ) from None
    except RadSearchError:
        raise
    except Exception as error:  # noqa: BLE001 -- any: a bug, whose words may hold a file's name
        raise nameless(error) from None
    _write_artifacts(summary, settings)
    return Ingested(summary, in_time)


def _begun(enter: Callable[[], Run]) -> Run:
    for delay in _RETRY_DELAYS_SECONDS:
        try:
            return enter()
        except (OSError, IndexUnreachableError, IndexBusyError) as error:
            if not is_transient(error):
                raise
            get_run_logger().warning("it could not begin and tries again in %g s (%s)", delay, type(error).__name__)
            time.sleep(delay)
    return enter()


def _run_chunks(run: Run, deadline: float | None) -> bool:
    """Whether all was done before the deadline."""
    total = run.archive.count(run.pseudonymizer)
    progress = create_progress_artifact(0.0, key=_PROGRESS_KEY, description=f"{total} files")
    assert isinstance(progress, UUID)  # noqa: S101 -- typed for callers in a coroutine too
    under_way: list[PrefectFuture[int]] = []
    shown = time.monotonic()

    def settle() -> None:
        nonlocal shown
        under_way.pop(0).result()
        if time.monotonic() - shown > _PROGRESS_SECONDS:
            shown = time.monotonic()
            update_progress_artifact(progress, 100.0 * run.ingestion.accounts.done() / max(1, total))

    for chunks in run.ingestion.passes(lambda: run.archive.files(run.pseudonymizer)):
        for chunk in chunks:
            if deadline is not None and time.monotonic() > deadline:
                while under_way:
                    settle()
                return False
            under_way.append(ingest_chunk.submit(run.ingestion, chunk, chunk.number))
            if len(under_way) >= run.ingestion.chunks_in_flight:
                settle()
        while under_way:
            settle()
    update_progress_artifact(progress, 100.0)
    return True


@contextmanager
def _turn_on_gpu(settings: Settings, hours: float | None) -> Iterator[None]:
    """On a machine with a GPU one run embeds at a time; the limit is Prefect's, and may be raised there.

    Raises:
        SettingsError: the turn did not come within the hours, or within a day.
    """
    if expected_gpus(settings.device) == 0:
        yield
        return
    name = f"radsearch-gpu-{socket.gethostname()}"
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):  # another run was faster
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    with ExitStack() as stack:
        try:
            stack.enter_context(concurrency(name, timeout_seconds=3600 * (hours or 24)))
        except TimeoutError:
            raise SettingsError(f"the GPU was never free: see who holds the limit {name} in Prefect") from None
        yield


def _write_artifacts(summary: Summary, settings: Settings) -> None:
    rows = [{"outcome": "indexed", "reason": "", "files": summary.indexed}]
    rows.append({"outcome": "unchanged", "reason": "", "files": summary.unchanged})
    for outcome, reasons in (("skipped", summary.skipped), ("refused", summary.refused)):
        rows += [{"outcome": outcome, "reason": reason, "files": number} for reason, number in reasons.items()]
    create_table_artifact(rows, key=_OUTCOMES_KEY, description=f"{summary.found} files")
    models = ", ".join(model.model for model in summary.models)
    words = "\n".join(f"- {line.strip()}" for line in summary.lines())
    location = without_credentials(settings.index)
    create_markdown_artifact(f"## {location}\n\nModels: {models}\n\n{words}\n", key=_SUMMARY_KEY)
