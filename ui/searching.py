"""A state and its uploaded files -> ranked hits. Files are read and models loaded before the index is opened."""

import gc
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from radsearch.audit import Audit
from radsearch.errors import EmbeddingError, RadSearchError, UnreadableImageError
from radsearch.index import Index, IndexCard, Stored, granted
from radsearch.models import models_of
from radsearch.privacy import load_pseudonymizer
from radsearch.search import Embedders, Nearness, Part, QueryFile, Ranking, Searcher, Wanted, is_id, told_of
from radsearch.search.calibration import Calibrations
from radsearch.settings import Settings
from radsearch.study import Facts, Hit
from ui.filters import where_of
from ui.lease import Lease
from ui.originals import Originals
from ui.pictures import webp_of
from ui.state import State, sole_query

MOST_FILES = 8
LARGEST_MEGABYTES = 200


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A file that a visitor searches by. It is on no disk any more; its picture lives as long as the session.

    token: tells it from all others.
    """

    file: QueryFile
    picture: bytes
    facts: Facts
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What all sessions share, as one visitor may see it.

    lease: on the whole index; who asks for a visitor asks `index`.
    datasets: that he may see; None for everything.
    audit: of what he does.
    """

    settings: Settings
    lease: Lease
    embedders: Embedders
    originals: Originals
    datasets: tuple[str, ...] | None = None
    audit: Audit = field(default_factory=lambda: Audit(None, ""))

    @property
    def place(self) -> tuple[object, ...]:
        """What may be kept for all sessions has to be kept by this: which index, and what of it may be seen."""
        return self.settings.index, self.settings.collection, self.datasets

    @contextmanager
    def index(self) -> Iterator[Index]:
        """The index with what he may see, and nothing else; raises what `open_index` and `require_blanked` raise."""
        with self.lease.index() as whole:
            whole.require_blanked(blanked=bool(self.settings.blank_text))
            yield granted(whole, self.datasets)


def read_upload(content: bytes | memoryview, settings: Settings) -> Upload:
    """Read what was uploaded; it is on the disk meanwhile only.

    Raises:
        RadSearchError: a sentence about the file.
    """
    pseudonymizer = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
    try:
        with tempfile.TemporaryDirectory(prefix="radsearch-") as folder:
            path = Path(folder) / "upload"
            path.write_bytes(content)
            file = QueryFile(path, settings, pseudonymizer)
            shown = file.shown
            file.identity  # noqa: B018 -- asked for while the file is there
    except UnreadableImageError as error:
        raise RadSearchError(f"This file cannot be searched by: {error.reason}.") from error
    except OSError as error:
        raise RadSearchError(f"This file cannot be opened: {error.strerror}.") from error
    return Upload(file, webp_of(shown.rendered.picture), shown.facts)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found.

    strange: how near the nearest image is, where that is not near enough; there are no hits then. remarks: why a
    calibration does not count.
    """

    hits: Sequence[Hit]
    strange: Nearness | None = None
    remarks: Sequence[str] = ()


def asks_for_something(state: State, uploads: Sequence[Upload]) -> bool:
    """Whether there is anything to search by."""
    return bool(uploads or state.ids or state.liked or state.text.strip())


def find(state: State, uploads: Sequence[Upload], card: IndexCard, around: Surroundings) -> Answer:
    """The hits; none where files are searched by, nothing is similar enough to them, and the state does not insist.

    Args:
        state: what to search by and where.
        uploads: files to search by, beside the state's indexed images.
        card: the index's, as it was when it was last asked.
        around: settings, index and models.

    Raises:
        RadSearchError: a sentence for the visitor.
    """
    by_text = not (uploads or state.ids or state.liked)
    models = state.models or usual_models(card, around.settings)
    files, ids = _files_of(state, uploads, around)
    tested = bool(files) and state.part is None and not (ids or state.liked or state.anyway)
    for name in _needed(models, around, tested=tested) if files or by_text else ():
        if name in card.models:
            _make_ready(name, files, card, around)
    ranking = Ranking(fusion=state.fusion, group=state.group, rerank=state.rerank, expand=state.expand)
    wanted = Wanted(state.shown, where_of(state), models, allow_same_patient=state.same_patient, ranking=ranking)
    with around.index() as index:
        if files:
            index.admit((), files[0].pseudonymizer.check)
        searcher = Searcher(index, around.settings, embedders=around.embedders)
        if by_text:  # there are no examples to go away from: what is disliked is left out
            where = replace(wanted.where, without_ids=state.disliked)
            hits = searcher.by_finding(state.text, replace(wanted, where=where))
        else:
            hits = searcher.by_files(files, wanted, liked=(*ids, *state.liked), disliked=state.disliked)
        nearness = searcher.nearness(files, wanted) if tested else None
    strange = nearness if nearness is not None and nearness.strange else None
    hits = hits if strange is None else []
    _note(state, len(uploads), wanted, hits, around.audit)
    return Answer(hits, strange, searcher.calibrations.remarks)


def _needed(models: Sequence[str], around: Surroundings, *, tested: bool) -> list[str]:
    """Models that a search by files embeds by: with those in which strangers are told."""
    if not tested:
        return list(models)
    with around.index() as index:
        return list(dict.fromkeys([*models, *Calibrations(around.settings, index).spaces(models)]))


def _note(state: State, files: int, wanted: Wanted, hits: Sequence[Hit], audit: Audit) -> None:
    """What was searched by, without the words; the filter's values are all the index's own, as the search found."""
    query = {
        "ids": state.ids, "liked": state.liked, "disliked": state.disliked, "files": files,
        "words": bool(state.text.strip()), "part": state.part is not None,
    }  # fmt: skip
    stated = {name: value for name, value in query.items() if value}
    audit.note("search", query=stated, filters=told_of(wanted.where), hits=[hit.id for hit in hits])


def _files_of(state: State, uploads: Sequence[Upload], around: Surroundings) -> tuple[list[QueryFile], tuple[str, ...]]:
    """Files and indexed images to search by; an image that is searched by a part of becomes its file."""
    files, ids = [upload.file for upload in uploads], state.ids
    if state.part is None or not sole_query(state, uploads):
        return files, ids
    if ids:
        with around.index() as index:
            points = index.retrieve([point for point in ids if is_id(point)])
        if not points:
            raise RadSearchError("No image of that id is in the index.")
        files = [around.originals.query_file(points[0])]
    left, top, right, bottom = (edge / 1000 for edge in state.part)
    return [files[0].cut(Part(left, top, right, bottom))], ()


def speaking_models(card: IndexCard, settings: Settings) -> list[str]:
    """Those of an index's models that read text."""
    rows = models_of(settings.settings_folder)
    return [name for name in card.models if name in rows and rows[name].text]


def settle() -> None:
    """Call it when much has been imported or loaded for good.

    Streamlit has Python look for garbage after every run of the page, which else goes through all of that each time.
    """
    gc.collect()
    gc.freeze()


def _has_vector(point: Stored, model: str, frame: int) -> bool:
    return point.payload.get("frame") == frame and model in point.payload.get("models", ())


def usual_models(card: IndexCard, settings: Settings) -> tuple[str, ...]:
    """Those that are searched by where none is chosen."""
    held = tuple(card.models)
    return held if len(held) == 1 else (settings.model,)


def _make_ready(name: str, files: Sequence[QueryFile], card: IndexCard, around: Surroundings) -> None:
    """Nobody else is to wait for the index while a model is loaded. A file that is indexed needs none."""
    held = card.models[name]
    new = not around.embedders.is_loaded(held)
    for file in files:
        with around.index() as index:
            same = index.having("content", [file.identity.content]) if file.part is None else []
            indexed = any(_has_vector(point, name, file.number) for point in same)
        if not indexed:
            file.embed(held, around.embedders)
    if not files:
        rows = models_of(around.settings.settings_folder)
        if name in rows and not rows[name].text:
            speaking = ", ".join(speaking_models(card, around.settings)) or "none of this index's"
            raise EmbeddingError(f"{name} cannot read text. Models here that can: {speaking}.")
        with around.embedders.using(held):
            pass
    if new and around.embedders.is_loaded(held):
        settle()
