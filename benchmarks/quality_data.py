"""The corpus of the retrieval ladder, embedded by every variant, with what each costs."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from surroundings import tell

from evaluation.adapting.pictures import read_pictures
from evaluation.collection import Collection, collected
from evaluation.noise import noise_pictures
from radsearch.models import ModelSpec, find_model
from radsearch.models.base import Embedder, load_model
from radsearch.models.heads import unit_blocks
from radsearch.privacy import load_pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Picture, Vectors

MIRRORED, GRID, LARGER = "mirrored", "3x3", "320 px"
_SIDE = 320
_TIMED = 128  # pictures of a speed, three times, the variants in turns
_ROUNDS = 3
_CELLS = 3
_NOISE = 50  # pictures of a kind


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """Frozen vectors. parts: lengths of their blocks. speed: images a second."""

    collection: Collection
    parts: tuple[int, ...]
    speed: float


def variants(manifest: Path, names: Sequence[str], settings: Settings) -> dict[str, Variant]:
    """The corpus by each model; `NAME mirrored`: the mean with the mirror image, and so on."""
    tell("reading the corpus")
    key = load_pseudonymizer(secret=settings.secret, secret_file=settings.secret_file.expanduser())
    read = list(read_pictures(manifest, settings, key, Counter()))
    pictures = [picture for _, _, picture in read]
    embedders = {name: load_model(_spec(name), device="cpu") for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_ROUNDS):
        for name, embedder in embedders.items():
            begun = time.perf_counter()
            _embed(embedder, name, pictures[:_TIMED])
            seconds[name].append(time.perf_counter() - begun)
    found = {}
    for name, embedder in embedders.items():
        tell(f"embedding by {name}")
        vectors = _embed(embedder, name, pictures)
        parts = (embedder.spec.dimension,) * _CELLS**2 if name.endswith(GRID) else embedder.spec.parts
        model = {"model": name, "dimension": vectors.shape[1]}
        images = collected(
            [file for file, _, _ in read], [facts for _, facts, _ in read], vectors, manifest.name, model
        )
        found[name] = Variant(images, parts, _TIMED / float(np.median(seconds[name])))
    return found


def _spec(name: str) -> ModelSpec:
    spec = find_model(name.split(maxsplit=1)[0])
    if not name.endswith(LARGER):
        return spec
    how = replace(spec.preprocessing, size=_SIDE, shortest_side=_SIDE)
    return replace(spec, preprocessing=how, joins=tuple(replace(part, preprocessing=how) for part in spec.joins))


def _embed(embedder: Embedder, name: str, pictures: Sequence[Picture]) -> Vectors:
    if name.endswith(MIRRORED):
        mirrored = [np.ascontiguousarray(one[:, ::-1]) for one in pictures]
        both = embedder.embed_images(pictures) + embedder.embed_images(mirrored)
        return unit_blocks(both, embedder.spec.parts)
    if name.endswith(GRID):
        return np.concatenate([_regions(embedder.maps([picture])[0]) for picture in pictures])
    return embedder.embed_images(pictures)


def _regions(features: Vectors) -> Vectors:
    """(rows, columns, dimension) -> (1, 9 x dimension): means over nine overlapping regions, each of unit length."""
    rows, columns = features.shape[:2]
    cells = [
        features[row * rows // 4 : -(-(row + 2) * rows // 4), column * columns // 4 : -(-(column + 2) * columns // 4)]
        for row in range(_CELLS)
        for column in range(_CELLS)
    ]
    means = np.concatenate([cell.mean(axis=(0, 1)) for cell in cells])[None]
    return unit_blocks(means, (features.shape[2],) * _CELLS**2)


def noise_of(name: str) -> dict[str, Vectors]:
    """By kind, vectors of pictures that show nothing."""
    embedder = load_model(_spec(name), device="cpu")
    return {kind: embedder.embed_images(pictures) for kind, pictures in noise_pictures(_NOISE).items()}
