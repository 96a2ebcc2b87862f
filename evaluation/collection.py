"""The labelled vectors that an evaluation looks at: from an index, or from published embeddings and their manifest."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.arrays import NO_ARRAY
from radsearch.errors import EmbeddingError, ManifestError, SettingsError
from radsearch.index import Index
from radsearch.index.schema import facts_of
from radsearch.reading.manifest import read_rows
from radsearch.study import Facts, Labels, Vectors

FACTS = ("dataset", "split", "modality", "region", "view", "sex", "manufacturer")
_LABELS = ("modality", "region")
_PEOPLE = ("patient", "study", "instance")  # the first that is known tells one person's images from another's
_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """What is known of one image but its vector.

    id: of the point, or the manifest's file name. findings: sorted, each once. patient: `patient:` and a pseudonym, or
    the manifest's data set and word; where none is known `study:` and the study's, else `instance:` and the file's,
    else `image:` and the image's own, so that nobody is matched with himself and no study with a patient of its number.
    facts: dataset, split, modality, region, view, sex, manufacturer, as far as known. study: its pseudonym, or the
    manifest's data set and word; None where none is known.
    """

    id: str
    patient: str
    findings: tuple[str, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    study: str | None = None

    @property
    def patient_known(self) -> bool:
        """Whether `patient` is a patient, and not the study or the image in its place."""
        return self.patient.startswith("patient:")

    @property
    def paths(self) -> tuple[str, ...]:
        """`MODALITY/region/finding` for each finding; none where modality or region is unknown."""
        return Labels(self.facts.get("modality"), self.facts.get("region"), self.findings).paths


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """Images and their vectors, row by row, ordered by id: that order decides between equal scores.

    vectors: (images, dimension) float32 of unit length. source: where it is from, in words. model: as the index's
        card or the command names it, for the report.
    """

    images: Sequence[Image]
    vectors: Vectors
    source: str
    model: Mapping[str, Any]


def from_index(index: Index, model: str) -> Collection:
    """All images of an index that have a vector of the model.

    Raises:
        UnknownNameError: the index does not hold the model.
        EmbeddingError: a vector is not finite.
    """
    index.require_model(model)
    fingerprint = index.card.models[model]
    images: list[Image] = []
    vectors = np.empty((index.count(), fingerprint.dimension), np.float32)
    for page in index.pages(vectors_of=[model]):
        for point in page:
            if model in point.vectors and len(images) < len(vectors):
                vectors[len(images)] = point.vectors[model]
                images.append(_image(point.id, facts_of(point.payload)))
    described = {name: getattr(fingerprint, name) for name in fingerprint.__slots__}
    return _ordered(images, vectors[: len(images)], index.location, described)


def from_files(vectors: Path, manifest: Path, model: str) -> Collection:
    """Published embeddings: a row of the array for each row of the manifest.

    Args:
        vectors: an `.npy` file of (images, dimension) numbers; they are brought to unit length.
        manifest: a CSV file, as an ingest takes it; here every row has to be usable and to name a file of its own.
        model: what to call them.

    Raises:
        SettingsError: the array cannot be read or has another form.
        ManifestError: the manifest or one of its rows cannot be used, or it has another number of rows.
        EmbeddingError: a vector is not finite or has no direction.
    """
    array = _read_array(vectors)
    images = list(_read_manifest(manifest))
    if len(images) != len(array):
        raise ManifestError(f"{manifest} has {len(images)} rows and {vectors} has {len(array)} vectors")
    described = {"model": model, "dimension": array.shape[1]}
    return _ordered(images, array, str(vectors).encode("utf-8", "backslashreplace").decode(), described)


def collected(
    names: Sequence[str], facts: Sequence[Facts], vectors: Vectors, source: str, model: Mapping[str, Any]
) -> Collection:
    """Images that were read here.

    Args:
        names: of the images, each of its own.
        facts: of each.
        vectors: (images, dimension).
        source: where they are from, in words.
        model: as `Collection.model`.

    Raises:
        EmbeddingError: a vector is not finite or has no direction.
    """
    return _ordered(
        [_image(name, of_image) for name, of_image in zip(names, facts, strict=True)], vectors, source, model
    )


def codes_of(words: Sequence[str]) -> NDArray[np.int64]:
    """(words,) whole numbers from 0, the same for the same word, in the order of the words whatever theirs here is."""
    places = {word: place for place, word in enumerate(sorted(set(words)))}
    return np.fromiter((places[word] for word in words), np.int64, len(words))


def _ordered(images: Sequence[Image], vectors: Vectors, source: str, model: Mapping[str, Any]) -> Collection:
    """Bring the vectors to unit length and into the order of the ids, some thousand at a time: they may be gigabytes.

    Where they are in that order already, as an index gives them, they are changed in place.
    """
    order = sorted(range(len(images)), key=lambda row: images[row].id)
    places = np.empty(len(images), np.intp)
    places[order] = np.arange(len(images))
    in_place = vectors.flags.writeable and vectors.dtype == np.float32 and order == list(range(len(images)))
    unit = vectors if in_place else np.empty(vectors.shape, np.float32)
    bad = 0
    for start in range(0, len(images), _BLOCK_ROWS):
        some = slice(start, start + _BLOCK_ROWS)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # what is endless or zero is counted
            block = vectors[some].astype(np.float64)
            lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
            bad += int((~np.isfinite(lengths) | (lengths == 0)).sum())
            unit[places[some]] = block / lengths[:, None]
    if bad:
        raise EmbeddingError(f"{bad} vectors of {source} are not finite or have no direction")
    return Collection([images[row] for row in order], unit, source, model)


def _image(name: str, facts: Facts) -> Image:
    labels = facts.labels
    stated = [(one, getattr(labels if one in _LABELS else facts, one) or facts.extra.get(one)) for one in FACTS]
    kind = next((kind for kind in _PEOPLE if getattr(facts, kind)), None)
    patient = f"{kind}:{getattr(facts, kind)}" if kind else f"image:{name}"
    known = {one: str(said) for one, said in stated if said}
    return Image(name, patient, tuple(sorted(set(labels.pathology))), known, facts.study)


def _read_array(file: Path) -> Vectors:
    try:
        array = np.lib.format.open_memmap(file, mode="r")  # never a pickle, never an archive
    except NO_ARRAY as error:
        raise SettingsError(f"{file} cannot be read as an array of numbers (.npy)") from error
    if array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:  # noqa: PLR2004 -- rows and columns
        raise SettingsError(f"{file} holds no (images, dimension) array of floating-point numbers")
    return array


def _read_manifest(file: Path) -> Iterator[Image]:
    taken: set[str] = set()
    for number, row in enumerate(read_rows(file, _own_words, dataset=None, split=None), 1):
        if row.reason is not None:
            column = f", column {row.column}" if row.column else ""
            raise ManifestError(f"{file}: row {number}{column}: {row.reason}")
        path = os.path.normpath(file.absolute().parent / row.filepath)
        if path in taken:
            raise ManifestError(f"{file}: row {number}, column filepath: it names the file of another row")
        taken.add(path)
        yield _image(row.filepath, row.facts)


def _own_words(_kind: str, dataset: str, value: str) -> str:
    return f"{dataset!r}:{value!r}"
