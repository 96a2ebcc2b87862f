"""Several devices, a process each: the vectors of one, whatever happens to a process on the way."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingest.pipeline import ingest_all
from ingest.run import begin
from ingest.sources import Archive
from radsearch.errors import EmbeddingError, ModelUnavailableError
from radsearch.models import built_in_models
from radsearch.models.base import load_model
from radsearch.models.several import DeviceProcesses, EmbeddingOrder, ManyDeviceEmbedder, embed
from radsearch.settings import Settings

SPEC = built_in_models()["efficientnet-lite0"]


def pictures(number: int = 4) -> list["np.ndarray"]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (50 + place, 40), dtype=np.uint8) for place in range(number)]


@pytest.mark.slow
def test_two_processes_give_the_vectors_of_one_even_when_they_are_killed() -> None:
    alone = load_model(SPEC, device="cpu")
    with DeviceProcesses(["cpu", "cpu"], None, 2) as processes:
        both = ManyDeviceEmbedder(SPEC, processes, None, precision="float32", batch=2)
        assert both.fingerprint == alone.fingerprint
        np.testing.assert_allclose(both.embed_images(pictures()), alone.embed_images(pictures()), atol=1e-6)
        for pool in processes._pools:
            (worker,) = pool._workers
            if worker._process is not None:
                os.kill(worker._process.pid, signal.SIGKILL)
        np.testing.assert_allclose(both.embed_images(pictures()), alone.embed_images(pictures()), atol=1e-6)


class Inline:
    """Does the work of a process here."""

    devices = ("cpu",)

    def embed(self, work: object) -> object:
        result = embed(EmbeddingOrder("cpu", None, 2), work)
        if isinstance(result, Exception):
            raise result
        return result


def test_what_a_model_raises_in_its_process_is_raised_where_it_was_asked_for() -> None:
    wrong = replace(SPEC, dimension=7)
    embedder = ManyDeviceEmbedder(wrong, Inline(), None, precision="float32", batch=2)
    with pytest.raises(EmbeddingError, match=r"shape \(4, 1280\), not \(4, 7\)"):
        embedder.embed_images(pictures())


def test_weights_that_are_missing_are_said_before_any_process_is_asked(tmp_path: Path) -> None:
    nowhere = replace(SPEC, weights=f"path:{tmp_path}")
    with pytest.raises(ModelUnavailableError, match="holds no weights"):
        ManyDeviceEmbedder(nowhere, Inline(), None, precision="float32", batch=2)


@pytest.mark.slow
def test_an_ingest_on_two_devices_gives_the_index_of_one(
    tmp_path: Path, write_png: Callable[..., Path], settings: Settings
) -> None:
    for number in range(9):
        write_png(f"archive/{number}.png", seed=number)
    points = []
    for device in ("cpu", "cpu,cpu"):
        here = replace(settings, index=str(tmp_path / f"index of {device}"), device=device)
        with begin(Archive(tmp_path / "archive", dataset="scans"), (), here) as run:
            ingest_all(run.ingestion, lambda run=run: run.archive.files(run.pseudonymizer), lambda: None)
            assert run.ingestion.accounts.images() == 9
            ids = [point.id for point in run.index.having("dataset", ["scans"])]
            found = run.index.retrieve(ids, vectors_of=["efficientnet-lite0"])
            points.append({point.id: point.vectors["efficientnet-lite0"] for point in found})
    first, second = points
    assert first.keys() == second.keys()
    assert len(first) == 9
    for point, vector in first.items():
        np.testing.assert_allclose(second[point], vector, atol=1e-6)
