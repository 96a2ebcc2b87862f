"""An index copied into another one, of whatever back end: in pages, so that a copy that was stopped goes on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from radsearch.errors import IndexMismatchError, RadSearchError
from radsearch.index.base import Index
from radsearch.index.records import IndexedImage, Stored
from radsearch.settings import Settings
from radsearch.thumbnails import Thumbnails

_CHECKED = 200  # points whose vectors are compared afterwards
_LEAST_COSINE = 0.999  # float16 may stand on one side


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did: points written, and points that were there already."""

    written: int
    there: int


def copy(
    source: Index,
    target: Index,
    progress: Callable[[int], None] = lambda _done: None,
    *,
    thumbnails: tuple[Thumbnails, Thumbnails] | None = None,
) -> Copied:
    """Copy all points with their vectors and payloads, and check the result.

    Args:
        source: to be copied from.
        target: to be copied into; it may hold a part already, of this copy or of an earlier one.
        progress: called with the number of points that are done.
        thumbnails: of the source and of the target, where those are to be copied, too.

    Raises:
        IndexMismatchError: the indexes have other pseudonyms or fingerprints, or the result is not the same.
    """
    target.admit(source.card.models.values(), _secret_check_of(source))
    models = list(source.card.models)
    written = there = 0
    for page in source.pages(vectors_of=models):
        if thumbnails is not None:
            of_source, of_target = thumbnails
            of_target.bring([point.payload["thumbnail"] for point in page if "thumbnail" in point.payload], of_source)
        missing = list(_missing(page, target))
        target.write(missing)
        written, there = written + len(missing), there + len(page) - len(missing)
        progress(written + there)
    target.finish()
    _compare(source, target)
    return Copied(written, there)


def seed(source: Index, settings: Settings, target: Settings) -> str | None:
    """Before a copy of a server into a new folder: take the server's shard as a whole, with its graphs.

    Args:
        source: the opened index.
        settings: of the source.
        target: settings of the target; where there is something already, nothing is done.

    Returns:
        Why it was not done, where it could have been; points are copied one by one then.

    Raises:
        IndexMismatchError: there is nothing to copy.
    """
    _secret_check_of(source)
    folder = target.index_folder
    if not settings.on_server or target.on_server or folder.exists():
        return None
    from radsearch.index.embedded import make_from_shard
    from radsearch.index.server_files import fetch_shard

    try:
        make_from_shard(folder, source.card, lambda file: fetch_shard(settings, file))
    except RadSearchError as error:
        return str(error)
    return None


def _secret_check_of(source: Index) -> str:
    if source.card.secret_check is None:
        raise IndexMismatchError(f"the index {source.location} has had no ingest yet: there is nothing to copy")
    return source.card.secret_check


def _missing(page: Sequence[Stored], target: Index) -> Iterator[IndexedImage]:
    """What the target has to be given; of the same image it keeps what the vectors of its other models are."""
    held = {point.id: point.payload for point in target.retrieve([point.id for point in page])}
    for point in page:
        there = held.get(point.id, {})
        same = there.get("content") == point.payload.get("content")
        models = set(point.payload.get("models", ()))
        kept = sorted(set(there.get("models", ())) - models) if same else []
        payload = {**point.payload, "models": sorted({*models, *kept})} if kept else point.payload
        if payload != there:
            yield IndexedImage(point.id, point.vectors, payload, tuple(kept))


def _compare(source: Index, target: Index) -> None:
    here, there = source.count(), target.count()
    if there < here:
        raise IndexMismatchError(f"of {here} points of {source.location} only {there} are in {target.location}")
    for model in source.card.models:
        sampled = {point.id: point.vectors[model] for point in source.sample(model, _CHECKED)}
        copied = {point.id: point.vectors.get(model) for point in target.retrieve(list(sampled), vectors_of=[model])}
        for point, vector in sampled.items():
            other = copied.get(point)
            if other is None or _cosine(vector, other) < _LEAST_COSINE:
                raise IndexMismatchError(f"the vectors of {model} in {target.location} are not those of the source")


def _cosine(one: "np.ndarray", other: "np.ndarray") -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
