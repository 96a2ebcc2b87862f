"""What only a GPU can show; everything else about models is tested on the CPU."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from radsearch.models import built_in_models
from radsearch.models.base import load_model
from radsearch.models.preprocessing import plan, prepare
from radsearch.models.resizing import resize

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

SPEC = built_in_models()["efficientnet-lite0"]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A fiftieth of the GPU's memory, however large it is, is less than the batch of the test needs."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.02)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def pictures(number: int) -> list["np.ndarray"]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (60 + place % 7, 80), dtype=np.uint8) for place in range(number)]


def test_a_gpu_gives_the_vectors_of_a_cpu() -> None:
    on_gpu, on_cpu = (load_model(SPEC, device=device) for device in ("cuda", "cpu"))
    assert on_gpu.fingerprint == on_cpu.fingerprint
    np.testing.assert_allclose(on_gpu.embed_images(pictures(40)), on_cpu.embed_images(pictures(40)), atol=1e-4)


def test_a_gpu_resizes_to_pillows_bytes() -> None:
    for picture in pictures(7):
        values = torch.from_numpy(picture).cuda().float()[None, None]
        resized = resize(values, plan(*picture.shape, SPEC.preprocessing), SPEC.preprocessing.interpolation)
        np.testing.assert_array_equal(resized[0, 0].cpu(), prepare(picture, SPEC.preprocessing))


@pytest.mark.usefixtures("little_memory")
def test_a_batch_too_large_for_the_memory_is_halved_and_nothing_is_lost() -> None:
    embedder = load_model(SPEC, device="cuda", batch=4096)
    many = embedder.embed_images(pictures(4096))
    assert embedder.batch < 4096
    np.testing.assert_allclose(many[:8], load_model(SPEC, device="cpu").embed_images(pictures(8)), atol=1e-4)
