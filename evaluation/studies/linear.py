"""The study `linear`: how well a linear layer on the frozen vectors names an image's class.

Source: the settings of Denner et al., arXiv 2403.06567, and their published code. The vectors are of unit length here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.checks import Rows
from evaluation.collection import Collection
from evaluation.protocols import Trial
from evaluation.settings import SearchSettings
from evaluation.studies.splits import Scores, Splits, Task, splits_of
from radsearch.models.devices import devices_of
from radsearch.study import Vectors

LEARNING_RATE, WEIGHT_DECAY, BATCH, EPOCHS, PATIENCE = 1e-3, 0.01, 512, 100, 20


@dataclass(frozen=True, slots=True)
class Linear:
    """The study.

    epochs: that were trained. best_epoch: from 1, the first of the best on val. val: its accuracy there. test: of that
    epoch's layer.
    """

    task: Task
    seed: int
    epochs: int
    best_epoch: int
    val: float
    test: Scores


@dataclass(frozen=True, slots=True, eq=False)
class _Trained:
    layer: nn.Linear
    epochs: int
    best_epoch: int
    val: float


def study_linear(collection: Collection, trial: Trial, settings: SearchSettings) -> Linear:
    """Train with AdamW on cross-entropy until 20 epochs bring nothing on val, 100 at most; the best epoch is tested.

    Raises:
        RadSearchError: there are not the splits train, val and test.
    """
    splits = splits_of(collection, trial, "linear")
    trained = _train(collection.vectors, splits, settings)
    test = splits.scores(_right(trained.layer, collection.vectors, splits, "test"))
    return Linear(
        task=splits.task,
        seed=settings.seed,
        epochs=trained.epochs,
        best_epoch=trained.best_epoch,
        val=trained.val,
        test=test,
    )


def _train(vectors: Vectors, splits: Splits, settings: SearchSettings) -> _Trained:
    device = torch.device(devices_of(settings.device)[0])
    layer = _new_layer(vectors.shape[1], len(splits.classes), settings.seed).to(device)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    random = np.random.default_rng(settings.seed)
    best, best_epoch, kept = -1.0, 0, _copy(layer)
    for epoch in range(1, EPOCHS + 1):
        _train_epoch(layer, optimiser, _batches(vectors, splits, random, device))
        accuracy = float(_right(layer, vectors, splits, "val").mean())
        if accuracy > best:
            best, best_epoch, kept = accuracy, epoch, _copy(layer)
        elif epoch - best_epoch >= PATIENCE:
            break
    layer.load_state_dict(kept)
    return _Trained(layer, epoch, best_epoch, best)


def _new_layer(dimension: int, classes: int, seed: int) -> nn.Linear:
    """Drawn on the CPU, so that no device changes it, and without touching the process's own random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(dimension, classes)


def _batches(
    vectors: Vectors, splits: Splits, random: np.random.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    order = random.permutation(len(splits.rows["train"]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        inputs = torch.from_numpy(vectors[splits.rows["train"][chosen]])
        yield inputs.to(device), torch.from_numpy(splits.codes["train"][chosen]).to(device)


def _train_epoch(layer: nn.Linear, optimiser: torch.optim.Optimizer, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    for inputs, codes in batches:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(layer(inputs), codes)
        torch.autograd.backward(loss)
        optimiser.step()


def _right(layer: nn.Linear, vectors: Vectors, splits: Splits, split: str) -> "np.ndarray":
    """(images of the split,) 1 where the layer's highest output is the class, else 0."""
    rows, codes = splits.rows[split], splits.codes[split]
    right = np.zeros(len(rows))
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            part = slice(start, start + BATCH)
            right[part] = _named(layer, vectors, rows[part]) == codes[part]
    return right


def _named(layer: nn.Linear, vectors: Vectors, rows: Rows) -> Rows:
    outputs: Tensor = layer(torch.from_numpy(vectors[rows]).to(layer.weight.device))
    named: Rows = outputs.argmax(dim=1).cpu().numpy()
    return named


def _copy(layer: nn.Linear) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in layer.state_dict().items()}
