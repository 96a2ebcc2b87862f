"""The steps of the retrieval ladder: what each makes of frozen vectors, learned inside the training folds only."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from quality_data import Variant
from torch.nn import functional

from evaluation.adapting.choosing import choose
from evaluation.adapting.discriminants import labelled
from evaluation.adapting.folds import FOLDS, folds_of
from evaluation.adapting.learning import head_of
from evaluation.adapting.scoring import DEPTH, Answers, answers_of
from evaluation.asking import first_neighbours, hits_of
from evaluation.collection import Collection
from evaluation.protocols import Trial, leave_patient_out
from evaluation.settings import SearchSettings
from radsearch.study import Vectors

FIRST = 100  # neighbours that are re-ranked
Rows = NDArray[np.int64]
Rerank = Callable[[Vectors, Vectors, Sequence[str]], NDArray[np.floating]]
"""The query's vector, those of its first hits, and their patients -> new scores, higher is better."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One line of the ladder.

    variant: whose frozen vectors. head: `""`, `discriminants` or `contrastive`. rerank: of the first 100. maxsim: the
    variant by whose regions they are re-ranked.
    """

    name: str
    variant: str
    head: str = ""
    rerank: Rerank | None = None
    maxsim: str = ""


@dataclass(slots=True)
class Told:
    """What a step came to.

    answers: by gallery. dimension: of its vectors. fits, seconds: how many heads were fitted, and how long a fold took.
    """

    answers: dict[str, Answers]
    dimension: int
    fits: int = 0
    seconds: list[float] = field(default_factory=list)


class Ladder:
    """Patients dealt out to five folds; queries are the images of one finding of the fold that was not learned from.

    Galleries: `archive`, all images of one finding of other patients, as in an archive with labels of its own; `new`,
    only those of the fold, of which no label was seen.
    """

    def __init__(self, variants: dict[str, Variant], settings: SearchSettings) -> None:
        self._variants = variants
        self._settings = settings
        first = next(iter(variants.values())).collection
        self.trial = leave_patient_out(first)
        single = leave_patient_out(first, single_label=True)
        self.patients = [image.patient for image in first.images]
        self.single: Rows = single.index
        self._folds = folds_of(self.trial.labels["label"], self.patients, self.trial.index.tolist())
        self._learned: dict[tuple[str, str], tuple[list[Vectors], int, list[float]]] = {}
        self._inner: dict[tuple[str, str], list[Answers]] = {}

    def go(self, step: Step) -> Told:
        """All five folds of a step."""
        per_fold, fits, seconds = self._vectors(step)
        answers: dict[str, list[Answers]] = {"archive": [], "new": []}
        for fold, vectors in enumerate(per_fold):
            held = self.single[self._folds[self.single] == fold]
            for gallery, index in (("archive", self.single), ("new", held)):
                answers[gallery].append(self._answers(step, vectors, held, index))
        joined = {name: Answers.joined(one).answerable for name, one in answers.items()}
        return Told(joined, per_fold[0].shape[1], fits, seconds)

    def collection(self, step: Step) -> Collection:
        """The images, with the step's frozen vectors."""
        return self._variants[step.variant].collection

    def calibrated(self, step: Step) -> Iterator[tuple[Answers, Answers]]:
        """By fold: what training patients found when they were not learned from, and what the others find."""
        per_fold, _, _ = self._vectors(step)
        for fold, vectors in enumerate(per_fold):
            held = self.single[self._folds[self.single] == fold]
            if step.head:
                inner = self._inner[step.variant, step.head][fold]
            else:
                rest = self.single[self._folds[self.single] != fold]
                inner = answers_of(self.collection(step), vectors, self.trial, rest, self._settings, index=rest)
            yield inner, answers_of(self.collection(step), vectors, self.trial, held, self._settings, index=self.single)

    def _vectors(self, step: Step) -> tuple[list[Vectors], int, list[float]]:
        variant = self._variants[step.variant]
        if not step.head:
            return [variant.collection.vectors] * FOLDS, 0, []
        if (step.variant, step.head) not in self._learned:
            learn = _discriminants if step.head == "discriminants" else _contrastive
            vectors, fits, seconds = [], 0, []
            for fold in range(FOLDS):
                rows = self.trial.index[self._folds[self.trial.index] != fold]
                begun = time.perf_counter()
                of_fold, fitted, inner = learn(variant, self.trial, rows, self._settings)
                seconds.append(time.perf_counter() - begun)
                vectors.append(of_fold)
                fits += fitted
                self._inner.setdefault((step.variant, step.head), []).extend(inner)
            self._learned[step.variant, step.head] = vectors, fits, seconds
        return self._learned[step.variant, step.head]

    def _answers(self, step: Step, vectors: Vectors, queries: Rows, index: Rows) -> Answers:
        collection = self._variants[step.variant].collection
        plain = answers_of(collection, vectors, self.trial, queries, self._settings, index=index)
        if step.rerank is None and not step.maxsim:
            return plain
        asked = replace(self.trial, queries=plain.queries, index=index)
        regions = self._variants[step.maxsim].collection.vectors if step.maxsim else None
        found = list(_reranked(replace(collection, vectors=vectors), asked, step.rerank, regions, self.patients))
        near = np.stack([rows for rows, _ in found])
        hits = hits_of(asked, plain.queries, near)
        return replace(plain, hits=hits, scores=np.stack([scores for _, scores in found]))


def _reranked(
    collection: Collection, asked: Trial, rerank: Rerank | None, regions: Vectors | None, patients: Sequence[str]
) -> Iterator[tuple[Rows, NDArray[np.floating]]]:
    """(10,) rows of the first hits of each query, and their scores, after re-ranking the first 100."""
    settings = SearchSettings("cpu")
    for rows, near in first_neighbours(collection, asked, FIRST, settings):
        for row, found in zip(rows.tolist(), near, strict=True):
            there = found[found >= 0]
            if regions is not None:
                scores = _maxsim(regions[row], regions[there])
            elif rerank is not None:
                scores = rerank(collection.vectors[row], collection.vectors[there], [patients[one] for one in there])
            order = np.argsort(-scores, kind="stable")[:DEPTH]
            short = DEPTH - len(order)
            yield np.pad(there[order], (0, short), constant_values=-1), np.pad(scores[order], (0, short))


def _maxsim(query: Vectors, hits: Vectors) -> NDArray[np.floating]:
    """Mean over the query's nine regions of the best cosine of the hit's (Khattab and Zaharia, SIGIR 2020)."""
    ours, theirs = query.reshape(9, -1), hits.reshape(len(hits), 9, -1)
    ours = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    theirs = theirs / np.linalg.norm(theirs, axis=2, keepdims=True)
    scores: NDArray[np.floating] = np.einsum("qd,hrd->hqr", ours, theirs).max(axis=2).mean(axis=1)
    return scores


def _discriminants(
    variant: Variant, trial: Trial, rows: Rows, settings: SearchSettings
) -> tuple[Vectors, int, list[Answers]]:
    chosen = choose(variant.collection, trial, rows, variant.parts, settings)
    head = head_of(variant.collection, trial, rows, variant.parts, chosen)
    return head.apply(variant.collection.vectors), chosen.fits + 1, [chosen.answers]


def _contrastive(
    variant: Variant, trial: Trial, rows: Rows, settings: SearchSettings
) -> tuple[Vectors, int, list[Answers]]:
    """A linear head by supervised contrastive loss on whitened components; a patient is never his own positive.

    Source: Khosla et al., Supervised contrastive learning, NeurIPS 2020 (arXiv 2004.11362), equation 2.
    """
    del settings
    vectors = variant.collection.vectors
    patients = [image.patient for image in variant.collection.images]
    learned = labelled(trial.labels["label"], patients, rows.tolist())
    own = np.unique(learned.rows)
    centre = vectors[own].mean(axis=0)
    _, spread, axes = np.linalg.svd(vectors[own] - centre, full_matrices=False)
    whiten = axes[:512].T / (spread[:512] + 0.05 * spread[0]) * np.sqrt(len(own))
    features = torch.from_numpy(((vectors - centre) @ whiten).astype(np.float32))
    flags = torch.zeros(len(vectors), learned.count)
    flags[learned.rows, learned.labels] = 1.0
    weights = np.bincount(learned.rows, learned.weights, minlength=len(vectors))
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    codes = torch.from_numpy(np.unique(patients, return_inverse=True)[1])
    layer = torch.nn.Linear(features.shape[1], 64, bias=False)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(150 * max(1, len(own) // 256)):
        batch = random.choice(len(vectors), 256, p=weights)
        loss = _loss(layer(functional.dropout(features[batch], 0.3)), flags[batch], codes[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        return functional.normalize(layer(features), dim=1).numpy(), 1, []


def _loss(projected: torch.Tensor, flags: torch.Tensor, patients: torch.Tensor) -> torch.Tensor:
    unit = functional.normalize(projected, dim=1)
    same = patients[:, None] == patients[None]
    logits = (unit @ unit.T / 0.1).masked_fill(same, -1e9)
    positive = (flags @ flags.T > 0) & ~same
    of_query = (logits - torch.logsumexp(logits, 1, keepdim=True)).masked_fill(~positive, 0).sum(1)
    counts = positive.sum(1)
    return -(of_query[counts > 0] / counts[counts > 0]).mean()
