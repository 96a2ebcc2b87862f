"""Search: by an image, an indexed one, text, liked and disliked examples, or a series -> ranked hits.

The query itself and all other images of its patient are left out, unless the caller allows them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from radsearch.errors import EmbeddingError, NothingToSearchError
from radsearch.index import Index
from radsearch.index.schema import facts_of
from radsearch.models import find_model, models_of
from radsearch.privacy import Pseudonymizer
from radsearch.search.calibration import Calibrations
from radsearch.search.checking import require_values
from radsearch.search.embedders import Embedders
from radsearch.search.examples import Examples, canonical_id, id_of, is_id, rocchio
from radsearch.search.files import Part, QueryFile
from radsearch.search.ranking import Ranking, ranked
from radsearch.search.series import evenly, nearest_series, slices_of
from radsearch.search.strangers import Nearness, nearness_of
from radsearch.search.told import told_of
from radsearch.search.wanted import Wanted, stated, without_images, without_patients, without_series
from radsearch.settings import Settings
from radsearch.study import Facts, Fingerprint, Hit, SearchFilter, Vectors

__all__ = [
    "Embedders", "Nearness", "Part", "QueryFile", "Ranking", "Searcher", "Wanted", "canonical_id", "is_id", "rocchio",
    "told_of",
]  # fmt: skip

if TYPE_CHECKING:
    from radsearch.models.base import Embedder


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """A file to search by: its vectors by model, what is known of it, and the points that it is itself."""

    vectors: Mapping[str, Vectors]
    facts: Sequence[Facts]
    ids: Sequence[str]


class Searcher:
    """Searches one index. Models are loaded when a query first needs them and kept.

    calibrations: of the index's models, whose `remarks` say why some do not count.
    """

    def __init__(
        self,
        index: Index,
        settings: Settings,
        pseudonymizer: Pseudonymizer | None = None,
        embedders: Embedders | None = None,
    ) -> None:
        """Args: pseudonymizer: makes a file's pseudonyms, needed for `by_image` only. embedders: kept by the caller."""
        self._index = index
        self._settings = settings
        self._pseudonymizer = pseudonymizer
        self._embedders = embedders or Embedders(settings)
        self.calibrations = Calibrations(settings, index)

    def by_image(self, path: Path, wanted: Wanted, *, frame: int | None = None) -> list[Hit]:
        """The images nearest to a file's. One whose content is indexed is that image: no model is loaded for it.

        Args:
            path: a DICOM, NIfTI, PNG or JPEG file.
            wanted: limit, filter and models.
            frame: number of the frame to search by, from 1; by default the middle one of those that an ingest takes.

        Raises:
            UnreadableImageError, OSError: the file cannot be read.
            NothingToSearchError: the file has no such frame.
            RadSearchError: as `check_filter` and the model's loader.
        """
        return self.by_images([path], wanted, frame=frame)

    def by_images(self, paths: Sequence[Path], wanted: Wanted, *, frame: int | None = None) -> list[Hit]:
        """As `by_image`, for several files that show the same: the images nearest to the mean of their vectors."""
        return self.by_files(self.query_files(paths, frame), wanted)

    def query_files(self, paths: Sequence[Path], frame: int | None = None) -> list[QueryFile]:
        """Files to search by, which are not read yet."""
        if self._pseudonymizer is None:
            raise NothingToSearchError("a search by file needs the secret of the index")
        return [QueryFile(path, self._settings, self._pseudonymizer, frame=frame) for path in paths]

    def by_files(
        self, files: Sequence[QueryFile], wanted: Wanted, *, liked: Sequence[str] = (), disliked: Sequence[str] = ()
    ) -> list[Hit]:
        """As `by_images`, for files that the caller keeps, together with liked and disliked indexed images."""
        models = self._models(wanted)
        self.check_filter(wanted.where)
        queries = [self._query_of(file, models) for file in files]
        examples = self._examples(liked, disliked, models)
        vectors = {
            name: rocchio(
                np.stack([*(query.vectors[name] for query in queries), *(one.vectors[name] for one in examples.liked)]),
                np.stack([one.vectors[name] for one in examples.disliked]) if disliked else None,
            )
            for name in models
        }
        facts = [fact for query in queries for fact in query.facts]
        ids = [point for query in queries for point in query.ids]
        hits = self._nearest(vectors, wanted, [*facts, *examples.facts], [*ids, *examples.ids])
        whole = all(file.part is None for file in files)
        alone = whole and len(models) == 1 and len(files) + len(liked) + len(disliked) == 1
        if not alone or wanted.ranking.expand or wanted.allow_same_patient:  # no such scores were measured
            return hits
        return self.calibrations.told(hits, models[0])

    def nearness(self, files: Sequence[QueryFile], wanted: Wanted) -> Nearness | None:
        """How near the nearest image of another patient is to the best known of these files, whatever the filter.

        None where no model was calibrated, or a part of a picture is searched by.
        """
        if any(file.part is not None for file in files):
            return None
        found = []
        for calibration in filter(None, map(self.calibrations.of, self._models(wanted))):
            for query in (self._query_of(file, [calibration.space.model]) for file in files):
                others = without_patients(without_images(SearchFilter(), query.ids), query.facts)
                found.append(nearness_of(self._index, query.vectors, others, calibration))
        return max(filter(None, found), key=lambda one: one.score - one.least, default=None)

    def by_series(self, series: str, wanted: Wanted) -> list[Hit]:
        """The series most like an indexed one, each as its best slice (`nearest_series`); without its own patient.

        Args:
            series: its pseudonym, or the id of an image of it.
            wanted: limit (of series), filter, models, threshold and page.

        Raises:
            NothingToSearchError: as `slices_of` and `nearest_series`.
        """
        models = self._models(wanted)
        self.check_filter(wanted.where)
        slices = slices_of(self._index, series, models)
        return self._nearest_series(
            [point.vectors for point in slices], wanted, [facts_of(one.payload) for one in slices]
        )

    def by_slices(self, paths: Sequence[Path], wanted: Wanted) -> list[Hit]:
        """As `by_series`, for files that are the slices of one series, in order; of one file its frames are.

        At most 32 of them, evenly spaced, are searched by. Raises as `by_image`, and NothingToSearchError where they
        are of several series.
        """
        files = self.query_files(paths)
        slices = files[0].slices() if len(files) == 1 else files
        models = self._models(wanted)
        self.check_filter(wanted.where)
        queries = [self._query_of(slices[place], models) for place in evenly(len(slices))]
        facts = [fact for query in queries for fact in query.facts]
        if len(stated(facts, lambda one: one.series)) > 1:
            raise NothingToSearchError("the files are of several series: search by those of one")
        ids = tuple(dict.fromkeys(point for query in queries for point in query.ids))
        return self._nearest_series([query.vectors for query in queries], wanted, facts, ids)

    def _query_of(self, file: QueryFile, models: Sequence[str]) -> _Query:
        same = self._index.having("content", [file.identity.content])
        itself = [point.id for point in same if point.payload.get("frame") == file.number]
        own = self._stored_vectors(itself, models) if file.part is None else None
        known = [facts_of(point.payload) for point in same]
        if own is not None:
            return _Query(own, known, [point.id for point in same])
        for name in models:
            held = self._index.card.models[name]
            if held not in file.vectors:
                self._check(held)
                file.embed(held, self._embedders)
        vectors = {name: file.vectors[self._index.card.models[name]] for name in models}
        return _Query(vectors, [file.shown.facts, *known], [*file.ids, *(point.id for point in same)])

    def by_id(self, point: str, wanted: Wanted) -> list[Hit]:
        """The images nearest to an indexed one. Raises NothingToSearchError where there is none of that id."""
        return self.like([point], [], wanted)

    def like(self, liked: Sequence[str], disliked: Sequence[str], wanted: Wanted) -> list[Hit]:
        """The images nearest to the liked examples and away from the disliked ones (ids of indexed images).

        The query is `rocchio`'s.
        The examples and their patients are left out.
        """
        if not liked:
            raise NothingToSearchError("a search by examples needs at least one that is liked")
        return self.by_files([], wanted, liked=liked, disliked=disliked)

    def _examples(self, liked: Sequence[str], disliked: Sequence[str], models: Sequence[str]) -> Examples:
        liked, disliked = ([id_of(point) for point in points] for points in (liked, disliked))
        found = {point.id: point for point in self._index.retrieve([*liked, *disliked], vectors_of=models)}
        for point in (*liked, *disliked):
            if point not in found or any(name not in found[point].vectors for name in models):
                raise NothingToSearchError(f"no indexed image {point} with a vector of {', '.join(models)}")
        return Examples([found[point] for point in liked], [found[point] for point in disliked])

    def by_text(self, text: str, wanted: Wanted) -> list[Hit]:
        """The images nearest to a text, by models that read text. Raises EmbeddingError where one does not."""
        return self._by_words(text, wanted, lambda embedder: embedder.embed_texts([text])[0])

    def by_finding(self, finding: str, wanted: Wanted) -> list[Hit]:
        """As `by_text`, for a finding: the mean over several ways to say that a picture shows it.

        Where the filter leaves one modality or one region, it is said with them ("a chest X-ray showing ...").
        """
        modality, region = (_only(values) for values in (wanted.where.modality, wanted.where.region))
        return self._by_words(
            finding, wanted, lambda embedder: embedder.embed_finding(finding, modality=modality, region=region)[0]
        )

    def _by_words(self, words: str, wanted: Wanted, vector_of: Callable[["Embedder"], Vectors]) -> list[Hit]:
        if not words.strip():
            raise NothingToSearchError("the text to search for is empty")
        models = self._models(wanted)
        for name in models:
            self._require_text(name)
        self.check_filter(wanted.where)
        vectors = {}
        for name in models:
            with self._embedder(name) as embedder:
                vectors[name] = vector_of(embedder)
        return ranked(self._index, vectors, wanted.where, wanted.limit, wanted.ranking)

    def _require_text(self, name: str) -> None:
        """Said before a model is loaded for nothing."""
        rows = models_of(self._settings.settings_folder)
        if name in rows and not rows[name].text:
            held = [model for model in self._index.card.models if model in rows and rows[model].text]
            speaking = ", ".join(model for model, row in rows.items() if row.text)
            here = f"of this index's models these can: {', '.join(held)}" if held else f"these can: {speaking}"
            raise EmbeddingError(f"{name} cannot read text; {here}")

    def check_filter(self, where: SearchFilter) -> None:
        """As `require_values`."""
        require_values(self._index, where)

    def _models(self, wanted: Wanted) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(wanted.models)) or self._default_models()
        for name in names:
            if name not in self._index.card.models:
                find_model(name, self._settings.settings_folder)  # an unknown name is answered with the whole table
                held = ", ".join(self._index.card.models) or "none"
                raise NothingToSearchError(
                    f"the index {self._index.location} holds no vectors of {name} (its models: {held}); add them with: "
                    f"python -m ingest FOLDER --model {name} --index {self._index.location}"
                )
        return names

    def _default_models(self) -> tuple[str, ...]:
        """The model of the settings where the index holds it, else the index's only one."""
        held = tuple(self._index.card.models)
        return held if len(held) == 1 else (self._settings.model,)

    @contextmanager
    def _embedder(self, name: str) -> Iterator["Embedder"]:
        with self._embedders.using(self._index.card.models[name]) as embedder:
            self._index.check(embedder.fingerprint)
            yield embedder

    def _check(self, held: Fingerprint) -> None:
        """Raises IndexMismatchError where the model here is not the one of the index."""
        with self._embedder(held.model):
            pass

    def _stored_vectors(self, ids: Sequence[str], models: Sequence[str]) -> Mapping[str, Vectors] | None:
        """The vectors of the first of these points, where it has all of the models'."""
        for point in self._index.retrieve(ids[:1], vectors_of=models) if ids else []:
            if all(name in point.vectors for name in models):
                return point.vectors
        return None

    def _nearest(
        self, vectors: Mapping[str, Vectors], wanted: Wanted, known: Sequence[Facts], own_ids: Sequence[str]
    ) -> list[Hit]:
        where = without_images(wanted.where, own_ids)
        others = without_patients(where, known)
        found_in = where if wanted.allow_same_patient else others
        return ranked(self._index, vectors, found_in, wanted.limit, wanted.ranking, expanded_within=others)

    def _nearest_series(
        self,
        slices: Sequence[Mapping[str, Vectors]],
        wanted: Wanted,
        known: Sequence[Facts],
        own_ids: Sequence[str] = (),
    ) -> list[Hit]:
        where = without_series(without_images(wanted.where, own_ids), known)
        where = where if wanted.allow_same_patient else without_patients(where, known)
        return nearest_series(self._index, slices, where, wanted.limit, wanted.ranking)


def _only(values: Sequence[str]) -> str | None:
    return values[0] if len(values) == 1 else None
