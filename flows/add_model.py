"""Give the images of an index the vectors of one more model."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.ingesting import MOST_CHUNKS, ingest
from flows.shared import failed, settings_for
from ingest.sources import Archive
from radsearch.errors import RadSearchError
from radsearch.index import open_index
from radsearch.settings import Settings
from radsearch.study import SearchFilter


@flow(
    name="add-model",
    task_runner=ThreadPoolTaskRunner(max_workers=MOST_CHUNKS),  # type: ignore[arg-type]  # typed for one result type
    persist_result=False,
    validate_parameters=True,
)
def add_model(  # noqa: PLR0913, PLR0917 -- a flow's parameters are what a deployment sets
    model: str,
    path: Path,
    manifest: Path | None = None,
    index: str | None = None,
    report: Path | None = None,
    hours: float | None = None,
) -> State[Any]:
    """Embed what is indexed by a further model; searches go on meanwhile, and no other vector is touched.

    The pixels are read from the archive again: an index holds none. Files that are not indexed yet are left out. A run
    that was cut off is finished by running it again. Completed where every image has a vector of the model.

    Args:
        model: its name.
        path: the archive that the index was made of.
        manifest: as at its ingest.
        index: a folder or the address of a Qdrant server (default: RADSEARCH_INDEX).
        report: where a JSON report goes.
        hours: time limit; the next run goes on.
    """
    try:
        settings = settings_for(index)
        with open_index(settings):
            pass  # there is one: an ingest would make it
        archive = Archive(path, manifest, known_only=True)
        ingested = ingest(archive, [model], settings, report=report, hours=hours)
        all_images, having = _counts(settings, model)
    except RadSearchError as error:
        return failed(error)
    message = f"{having} of {all_images} images have a vector of {model}; {ingested.summary.lines()[0]}"
    if not ingested.in_time or having < all_images:
        return Failed(message=message)
    return Completed(message=message)


def _counts(settings: Settings, model: str) -> tuple[int, int]:
    with open_index(settings) as index:
        return index.count(), index.count(SearchFilter(any_of={"models": (model,)}))
