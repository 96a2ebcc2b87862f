"""The images of a manifest, read and embedded without an index: to learn from one archive and score on another."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from evaluation.collection import Collection, collected
from radsearch.errors import NothingToSearchError, RadSearchError, UnreadableImageError
from radsearch.models import find_model
from radsearch.models.base import load_model
from radsearch.models.identity import fingerprint_for
from radsearch.models.weights import find_weights
from radsearch.privacy import Pseudonymizer
from radsearch.reading.manifest import read_rows
from radsearch.search import QueryFile
from radsearch.settings import Settings
from radsearch.study import Facts, Fingerprint, Picture, Vectors

if TYPE_CHECKING:
    from radsearch.models.spec import Precision

_AT_ONCE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A manifest's images.

    collection: with their vectors. fingerprint: of the model that gave them. refused: reason -> number of rows.
    """

    collection: Collection
    fingerprint: Fingerprint
    refused: Counter[str] = field(default_factory=Counter)


def embed_manifest(manifest: Path, model: str, settings: Settings, pseudonymizer: Pseudonymizer) -> Embedded:
    """Read and embed every file that a manifest names, as an ingest would; of one with frames the middle one.

    Args:
        manifest: as for an ingest; its folder is where its files are.
        model: a name of the table.
        settings: of reading, of text in pictures, and of the device.
        pseudonymizer: of patients.

    Raises:
        ManifestError: the manifest cannot be read.
        NothingToSearchError: no image of it can be used.
        RadSearchError: as the model's loader.
    """
    spec = find_model(model, settings.settings_folder)
    weights = find_weights(spec, settings.models_folder)
    precision = cast("Precision", fingerprint_for(spec, weights, settings).precision)
    embedder = load_model(
        spec,
        models_folder=settings.models_folder,
        device=settings.device,
        batch=settings.batch_size,
        precision=precision,
        text_blanked=bool(settings.blank_text),
    )
    refused: Counter[str] = Counter()
    names: list[str] = []
    facts: list[Facts] = []
    vectors: list[Vectors] = []
    read = read_pictures(manifest, settings, pseudonymizer, refused)
    while some := list(islice(read, _AT_ONCE)):
        names += [name for name, _, _ in some]
        facts += [said for _, said, _ in some]
        vectors.append(embedder.embed_images([picture for _, _, picture in some]))
    if not names:
        raise NothingToSearchError(f"no image of {manifest} can be used ({_told(refused)})")
    described = {name: getattr(embedder.fingerprint, name) for name in embedder.fingerprint.__slots__}
    return Embedded(
        collected(names, facts, np.concatenate(vectors), str(manifest), described), embedder.fingerprint, refused
    )


def read_pictures(
    manifest: Path, settings: Settings, pseudonymizer: Pseudonymizer, refused: Counter[str]
) -> Iterator[tuple[str, Facts, Picture]]:
    """The name, facts and rendered picture of every file that a manifest names; what is refused is counted.

    Args:
        manifest: its folder is where its files are.
        settings: of reading, and of text in pictures.
        pseudonymizer: of patients.
        refused: reason -> number of rows, added to.

    Raises:
        ManifestError: the manifest cannot be read.
    """
    folder = manifest.absolute().parent
    for row in read_rows(manifest, pseudonymizer.pseudonym, dataset=settings.dataset, split=None):
        if row.reason is not None:
            refused[row.reason] += 1
            continue
        file = QueryFile(Path(os.path.normpath(folder / row.filepath)), settings, pseudonymizer)
        try:
            shown = file.shown
        except UnreadableImageError as error:
            refused[error.reason] += 1
        except (OSError, RadSearchError):
            refused["the file cannot be opened"] += 1
        else:
            yield row.filepath, shown.facts.completed_by(row.facts), shown.rendered.picture


def _told(refused: Counter[str]) -> str:
    return "; ".join(f"{number} {reason}" for reason, number in refused.items()) or "it names none"
