"""Several devices, a process each: the vectors of one, whatever happens to a process on the way."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingest.run import begin
from ingest.sources import Archive
from ingest.whole import ingest_all
from radsearch.errors import EmbeddingError, ModelUnavailableError, OutOfDeviceMemoryError, RadSearchError
from radsearch.models import built_in_models
from radsearch.models.base import load_model
from radsearch.models.several import DeviceProcesses, EmbeddingOrder, EmbeddingWork, ManyDeviceEmbedder, embed
from radsearch.models.weights import find_weights, fingerprint_of
from radsearch.reading.isolation import CRASHED, KILLED, Refusal
from radsearch.settings import Settings

SPEC = built_in_models()["efficientnet-lite0"]


def pictures(number: int = 4) -> list["np.ndarray"]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (50 + place, 40), dtype=np.uint8) for place in range(number)]


@pytest.mark.slow
def test_two_processes_give_the_vectors_of_one_even_when_they_are_killed() -> None:
    alone = load_model(SPEC, device="cpu")
    with DeviceProcesses(["cpu", "cpu"], None, 2) as processes:
        both = ManyDeviceEmbedder(SPEC, processes, alone.fingerprint)
        np.testing.assert_allclose(both.probe(), alone.probe(), atol=1e-6)
        np.testing.assert_allclose(both.embed_images(pictures()), alone.embed_images(pictures()), atol=1e-6)
        for device in processes._devices:
            (worker,) = device.pool._workers
            if worker._process is not None:
                os.kill(worker._process.pid, signal.SIGKILL)
        np.testing.assert_allclose(both.embed_images(pictures()), alone.embed_images(pictures()), atol=1e-6)


class Answers:
    """In a pool's place: what the work of its process comes to, one after the other; a function is asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.closed = False
        self.asked: list[EmbeddingWork] = []

    def begin(self, task: object, works: list[EmbeddingWork]) -> "Answers":
        assert task is embed
        self.asked += works
        return self

    def results(self) -> list[object]:
        answer = self.answers.pop(0)
        return [answer(self.asked[-1]) if callable(answer) else answer]

    def close(self) -> None:
        self.closed = True


def processes_of(monkeypatch: pytest.MonkeyPatch, *pools: Answers) -> DeviceProcesses:
    following = iter(pools)
    monkeypatch.setattr("radsearch.models.several.IsolatedPool", lambda *_args: next(following))
    return DeviceProcesses([f"cuda:{number}" for number in range(len(pools))], None, 0)


FINGERPRINT = fingerprint_of(SPEC, find_weights(SPEC, None))
VECTOR, OTHER = np.array([0.6, 0.8], np.float32), np.array([0.8, 0.6], np.float32)
FULL, GONE = OutOfDeviceMemoryError("cuda:0 has not the memory"), ModelUnavailableError("the process was lost")


def test_what_a_model_raises_in_its_process_is_raised_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(SPEC, dimension=7)
    here = Answers(lambda work: embed(EmbeddingOrder("cpu", None, 2), work))
    embedder = ManyDeviceEmbedder(
        wrong, processes_of(monkeypatch, here), fingerprint_of(wrong, find_weights(wrong, None))
    )
    with pytest.raises(EmbeddingError, match=r"shape \(4, 1280\), not \(4, 7\)"):
        embedder.embed_images(pictures())


def test_weights_that_were_replaced_since_the_run_began_are_refused_in_the_process() -> None:
    work = EmbeddingWork(SPEC, replace(FINGERPRINT, weights="sha256:other"), probe=True)
    answer = embed(EmbeddingOrder("cpu", None, 2), work)
    assert isinstance(answer, ModelUnavailableError)
    assert "efficientnet-lite0 has changed since this run began: weights: sha256:other -> " in str(answer)


def test_a_device_that_cannot_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pools = Answers(FULL), Answers(VECTOR, VECTOR, VECTOR)
    processes = processes_of(monkeypatch, *pools)
    embedder = ManyDeviceEmbedder(SPEC, processes, FINGERPRINT)
    np.testing.assert_array_equal(embedder.probe(), VECTOR)
    assert caplog.messages == ["cuda:0 is left out of this run: cuda:0 has not the memory"]
    assert processes.names == ("cuda:1",)
    assert [pool.closed for pool in pools] == [True, False]
    for _ in range(2):
        embedder.embed_prepared(pictures())
    assert len(pools[1].asked) == 3


def test_where_no_device_can_the_first_ones_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = ManyDeviceEmbedder(SPEC, processes_of(monkeypatch, Answers(FULL), Answers(GONE)), FINGERPRINT)
    with pytest.raises(OutOfDeviceMemoryError, match="cuda:0"):
        embedder.probe()


@pytest.mark.parametrize("fault", [FULL, Refusal(KILLED), GONE])
def test_what_one_device_cannot_do_another_is_asked_for(monkeypatch: pytest.MonkeyPatch, fault: object) -> None:
    pools = Answers(fault), Answers(VECTOR)
    embedder = ManyDeviceEmbedder(SPEC, processes_of(monkeypatch, *pools), FINGERPRINT)
    np.testing.assert_array_equal(embedder.embed_images(pictures()), VECTOR)


def test_what_none_can_do_is_raised_and_what_is_the_models_fault_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = Answers(Refusal(CRASHED), EmbeddingError("not finite"), Refusal("unexpected KeyError")), Answers(FULL)
    embedder = ManyDeviceEmbedder(SPEC, processes_of(monkeypatch, *pools), FINGERPRINT)
    with pytest.raises(OutOfDeviceMemoryError):
        embedder.embed_images(pictures())
    with pytest.raises(EmbeddingError, match="not finite"):
        embedder.embed_images(pictures())
    with pytest.raises(RadSearchError, match="failed: unexpected KeyError"):
        embedder.embed_images(pictures())
    assert [len(pool.asked) for pool in pools] == [3, 1]


@pytest.mark.parametrize("fault", [RadSearchError("cannot be started"), OSError(5, "input/output error")])
def test_a_device_whose_process_does_not_start_is_left_out_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    def fail(_work: EmbeddingWork) -> None:
        raise fault

    processes = processes_of(monkeypatch, Answers(fail), Answers(VECTOR, VECTOR))
    embedder = ManyDeviceEmbedder(SPEC, processes, FINGERPRINT)
    np.testing.assert_array_equal(embedder.probe(), VECTOR)
    assert processes.names == ("cuda:1",)
    assert "cuda:0 is left out of this run" in caplog.text


def test_two_batches_are_on_their_way_to_each_device_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    asked = threading.Semaphore(0)

    def answer(_work: EmbeddingWork) -> np.ndarray:
        asked.release()
        go_on.wait(60)
        return VECTOR

    pools = [Answers(*[answer] * 9) for _ in range(2)]
    embedder = ManyDeviceEmbedder(SPEC, processes_of(monkeypatch, *pools), FINGERPRINT)
    with ThreadPoolExecutor(6) as threads:
        results = [threads.submit(embedder.embed_prepared, pictures()) for _ in range(6)]
        for _ in range(4):
            assert asked.acquire(timeout=60)
        assert not asked.acquire(timeout=0.2)
        assert [len(pool.asked) for pool in pools] == [2, 2]
        go_on.set()
        assert len([result.result() for result in results]) == 6


@pytest.mark.parametrize(("stated", "batch"), [(0, 256), (7, 7)])
def test_the_batch_is_that_of_one_device(monkeypatch: pytest.MonkeyPatch, stated: int, batch: int) -> None:
    processes = processes_of(monkeypatch, Answers())
    processes.batch = stated
    assert ManyDeviceEmbedder(SPEC, processes, FINGERPRINT).batch == batch


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
