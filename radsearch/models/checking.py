"""`models check`: load a model, embed the test card in every precision that it may run in, compare with the record."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from radsearch.models.base import Embedder, load_model
from radsearch.models.card import Record, recorded, remember
from radsearch.models.spec import ModelSpec, Precision
from radsearch.models.stated import stated_preprocessing
from radsearch.models.weights import Weights, find_weights, fingerprint_of
from radsearch.settings import Settings
from radsearch.study import Fingerprint, Vectors

LEAST_COSINE = 0.999
_SAME_TEXT = 0.99999  # what a tokenizer that knows no words makes of any two texts


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked, and whether it is as it should be."""

    what: str
    outcome: str
    good: bool = True


def check_model(spec: ModelSpec, settings: Settings, *, record: bool = False) -> Iterator[Finding]:
    """Check a model, finding by finding.

    Args:
        spec: its row.
        settings: where weights lie, and on which device to run.
        record: remember the card's vector anew, whatever was recorded before.

    Raises:
        ModelUnavailableError: it does not load or does not run as its row says: missing weights, another
            architecture, another preprocessing, a vector of another length.
    """
    weights = find_weights(spec, settings.models_folder)
    fingerprint = fingerprint_of(spec, weights)
    yield Finding("weights", f"{fingerprint.weights}, {len(weights.files)} file(s) in {weights.place}")
    begun = time.perf_counter()
    first: Precision = "float32" if "float32" in spec.precisions else spec.precisions[0]
    whole = _load(spec, settings, first)
    card = whole.probe()
    yield Finding("loads", f"in {time.perf_counter() - begun:.1f} s; the card gives {len(card)} numbers")
    yield Finding("preprocessing", _who_says(spec, weights))
    known = None if record else recorded(spec, weights)
    if known is not None:
        yield from _compared(known, fingerprint, card)
    else:
        yield _remembered(spec, weights, card)
    for precision in spec.precisions:
        if precision != first:
            cosine = float(_load(spec, settings, precision).probe() @ card)
            yield Finding(precision, f"cosine to float32 {cosine:.5f}", good=cosine >= LEAST_COSINE)
    if spec.text:
        one, other = whole.embed_texts(["a chest X-ray", "an ultrasound image of the thyroid"])
        alike = float(one @ other)
        words = f"cosine of two texts {alike:.3f}, of one to the card {float(one @ card):.3f}"
        yield Finding("text", words, good=alike < _SAME_TEXT)


def _load(spec: ModelSpec, settings: Settings, precision: Precision) -> Embedder:
    blanked = spec.base is not None and bool(settings.blank_text)  # a head knows what its base saw
    return load_model(
        spec,
        models_folder=settings.models_folder,
        device=settings.device,
        batch=1,
        precision=precision,
        text_blanked=blanked,
    )


def _who_says(spec: ModelSpec, weights: Weights) -> str:
    if not spec.own_preprocessing:
        return "the row's, on purpose"
    stated = stated_preprocessing(weights.place, spec.library) if spec.scheme != "package" else {}
    return "the row's, as its files say" if stated else "the row's; its files say nothing of it"


def _compared(known: Record, now: Fingerprint, card: Vectors) -> Iterator[Finding]:
    for what in ("weights", "preprocessing"):
        was, here = getattr(known, what), getattr(now, what)
        if was != here:
            words = f"{was} -> {here} (where that is meant: models check {now.model} --record)"
            yield Finding(f"recorded {what}", words, good=False)
    same_length = known.card.shape == card.shape
    cosine = float(known.card @ card / np.linalg.norm(known.card)) if same_length else 0.0
    yield Finding("recorded card", f"cosine {cosine:.5f}", good=cosine >= LEAST_COSINE)


def _remembered(spec: ModelSpec, weights: Weights, card: Vectors) -> Finding:
    try:
        remember(spec, weights, card)
    except OSError as error:
        return Finding("recorded card", f"none, and none can be written to {weights.place} ({error.strerror})")
    return Finding("recorded card", "recorded now: the next check compares with it")
