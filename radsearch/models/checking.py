"""`models check`: load a model, embed the test card in every precision that it may run in, compare with the record."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np

from radsearch.models.base import Embedder, load_model
from radsearch.models.card import Record, card_picture, recorded, remember
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import find_weights, fingerprint_of
from radsearch.settings import Settings
from radsearch.study import Vectors

LEAST_COSINE = 0.999


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked, and whether it is as it should be."""

    what: str
    outcome: str
    good: bool = True


def check_model(spec: ModelSpec, settings: Settings) -> Iterator[Finding]:
    """Check a model, finding by finding.

    Raises:
        ModelUnavailableError: it does not load: missing weights, another architecture, another preprocessing.
    """
    weights = find_weights(spec, settings.models_folder)
    fingerprint = fingerprint_of(spec, weights)
    yield Finding("weights", f"{fingerprint.weights}, {len(weights.files)} file(s) in {weights.place}")
    begun = time.perf_counter()
    whole = _load(spec, settings)
    yield Finding("loads", f"in {time.perf_counter() - begun:.1f} s; the card gives {spec.dimension} numbers")
    card = _card_vector(whole)
    known = recorded(spec, weights)
    if known is not None:
        yield from _compared(known, fingerprint.weights, fingerprint.preprocessing, card)
    else:
        yield _remembered(spec, settings, card)
    for precision in spec.precisions:
        if precision != "float32":
            cosine = float(
                _card_vector(
                    load_model(
                        spec,
                        models_folder=settings.models_folder,
                        device=settings.device,
                        batch=1,
                        precision=precision,
                    )
                )
                @ card
            )
            yield Finding(precision, f"cosine to float32 {cosine:.5f}", good=cosine >= LEAST_COSINE)
    if spec.text:
        (text,) = whole.embed_texts(["a chest X-ray"])
        yield Finding("text", f"cosine of 'a chest X-ray' to the card {float(text @ card):.3f}")


def _load(spec: ModelSpec, settings: Settings) -> Embedder:
    return load_model(spec, models_folder=settings.models_folder, device=settings.device, batch=1)


def _card_vector(embedder: Embedder) -> Vectors:
    vectors: Vectors = embedder.embed_images([card_picture()])
    return cast("Vectors", vectors[0])


def _compared(known: Record, weights: str, preprocessing: str, card: Vectors) -> Iterator[Finding]:
    for what, was, now in (
        ("weights", known.weights, weights),
        ("preprocessing", known.preprocessing, preprocessing),
    ):
        if was != now:
            yield Finding(f"recorded {what}", f"{was} -> {now}", good=False)
    same_length = known.card.shape == card.shape
    cosine = float(known.card @ card / np.linalg.norm(known.card)) if same_length else 0.0
    yield Finding("recorded card", f"cosine {cosine:.5f}", good=cosine >= LEAST_COSINE)


def _remembered(spec: ModelSpec, settings: Settings, card: Vectors) -> Finding:
    weights = find_weights(spec, settings.models_folder)
    try:
        remember(spec, weights, card)
    except OSError as error:
        return Finding("recorded card", f"none, and none can be written to {weights.place} ({error.strerror})")
    return Finding("recorded card", "none yet: this one is recorded, the next check compares with it")
