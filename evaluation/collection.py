"""The labelled vectors that an evaluation looks at: from an index, or from published embeddings and their manifest."""

import csv
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from radsearch.errors import EmbeddingError, ManifestError, SettingsError
from radsearch.index import Index, Stored
from radsearch.study import Labels, Vectors

FACTS = ("dataset", "split", "modality", "region", "view", "sex", "manufacturer")
_WITHOUT_PATIENT = ("study", "instance")  # what tells images apart of whom no patient is known


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """What is known of one image but its vector.

    id: of the point, or the manifest's file name. findings: sorted, each once. patient: a pseudonym, or the manifest's
    own word; where none is known the study's, else the image's own, so that nobody is matched with himself.
    facts: dataset, split, modality, region, view, sex, manufacturer, as far as known.
    """

    id: str
    patient: str
    findings: tuple[str, ...]
    facts: Mapping[str, str] = field(default_factory=dict)

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
                images.append(_image_of(point))
    described = {name: getattr(fingerprint, name) for name in fingerprint.__slots__}
    return _ordered(images, vectors[: len(images)], index.location, described)


def from_files(vectors: Path, manifest: Path, model: str) -> Collection:
    """Published embeddings: a row of the array for each row of the manifest.

    Args:
        vectors: an `.npy` file of (images, dimension) numbers; they are brought to unit length.
        manifest: a CSV file with the columns of an ingest's manifest.
        model: what to call them.

    Raises:
        SettingsError: the array cannot be read or has another form.
        ManifestError: the manifest cannot be used, or has another number of rows.
        EmbeddingError: a vector is not finite or has no direction.
    """
    array = _read_array(vectors)
    images = list(_read_manifest(manifest))
    if len(images) != len(array):
        raise ManifestError(f"{manifest} has {len(images)} rows and {vectors} has {len(array)} vectors")
    described = {"model": model, "dimension": array.shape[1]}
    return _ordered(images, np.array(array, np.float64), str(vectors), described)


def _ordered(images: Sequence[Image], vectors: Vectors, source: str, model: Mapping[str, Any]) -> Collection:
    with np.errstate(over="ignore"):  # an endless length is counted
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    bad = int((~np.isfinite(lengths) | (lengths == 0)).sum())
    if bad:
        raise EmbeddingError(f"{bad} vectors of {source} are not finite or have no direction")
    order = sorted(range(len(images)), key=lambda row: images[row].id)
    unit = vectors[order]
    unit /= lengths[order, None]
    unit = unit.astype(np.float32, copy=False)
    return Collection([images[row] for row in order], unit, source, model)


def _image_of(point: Stored) -> Image:
    payload = point.payload
    stated = [payload.get(name) for name in ("patient", *_WITHOUT_PATIENT)]
    facts = {name: str(payload[name]) for name in FACTS if payload.get(name) is not None}
    findings = tuple(sorted(set(payload.get("pathology", ()))))
    return Image(point.id, next((str(one) for one in stated if one), point.id), findings, facts)


def _read_array(file: Path) -> Vectors:
    try:
        array = np.lib.format.open_memmap(file, mode="r")  # never a pickle, never an archive
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:  # as numpy parses a header
        raise SettingsError(f"{file} cannot be read as an array of numbers (.npy)") from error
    if array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:  # noqa: PLR2004 -- rows and columns
        raise SettingsError(f"{file} holds no (images, dimension) array of floating-point numbers")
    return array


def _read_manifest(file: Path) -> Iterator[Image]:
    wanted = ("filepath", "modality", "region", "labels")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            missing = [name for name in wanted if name not in (rows.fieldnames or ())]
            if missing:
                raise ManifestError(f"{file} has no column {', '.join(missing)}")
            taken: set[str] = set()
            for number, row in enumerate(rows, 1):
                if None in row or None in row.values():
                    raise ManifestError(f"{file}: row {number} has another number of cells than the header")
                known = {name: value.strip() for name, value in row.items()}
                if not known["filepath"] or known["filepath"] in taken:
                    raise ManifestError(f"{file}: row {number} names no file, or one that another row has")
                taken.add(known["filepath"])
                patient = next((known[name] for name in ("patient", *_WITHOUT_PATIENT) if known.get(name)), None)
                findings = tuple(sorted({one.strip() for one in known["labels"].split(";")} - {""}))
                facts = {name: known[name] for name in FACTS if known.get(name)}
                if "modality" in facts:
                    facts["modality"] = facts["modality"].upper()  # as an ingest takes it
                yield Image(known["filepath"], patient or known["filepath"], findings, facts)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"the manifest {file} cannot be read ({type(error).__name__})") from error
