"""How many images a second become vectors, beside the forward pass alone and beside the recipe that people start with?

    .venv/bin/python benchmarks/embed_throughput.py                                       # on a CPU
    .venv/bin/python benchmarks/embed_throughput.py --images 20000 --naive-images 1000    # on a GPU

A ViT-B/16 (random weights: they do not change the speed) is written to a folder in the hub's format with its own image
processor, and used by a row of models.toml. Each round times, in turn:

naive: Pillow, the library's processor, float32, batches of 32, one process;
forward: the forward pass alone, batches ready on the device, in float32 and in bfloat16;
end to end: an ingest of PNGs in bfloat16, from files until all vectors are stored;
decoding: the same worker processes and their work, thumbnails too, without a model, to tell which side binds.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ingest_throughput import write_pngs
from PIL import Image

from radsearch.settings import Settings

if TYPE_CHECKING:  # the worker processes import this file, and would import torch with it
    from radsearch.models.base import Embedder

_SECRET = "a secret for benchmarks only, of no use"  # noqa: S105 -- protects nothing
_MODEL = "vit-b16-at-random"
_NAIVE_BATCH = 32
_SIDE = 256
_ROW = f"""
[{_MODEL}]
library = "transformers"
path = "{_MODEL}"
size = 224
resize = "squash"
interpolation = "bilinear"
normalise = "half"
pooling = "class token"
dimension = 768
precisions = ["bfloat16", "float32"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help="of an end-to-end round")
    parser.add_argument("--forward-images", type=int, help="of a forward round (default: as --images)")
    parser.add_argument("--naive-images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    write_model(folder)
    write_pngs(folder / "images", options.images, _SIDE, seed=0)
    files = sorted((folder / "images").iterdir())
    settings = Settings(secret=_SECRET, settings_folder=folder, models_folder=folder)
    whole, half = (load(settings, precision) for precision in ("float32", "bfloat16"))
    pictures = [np.asarray(Image.open(file)) for file in files[:64]]
    cosines = (whole.embed_images(pictures) * half.embed_images(pictures)).sum(axis=1)
    naive = naive_recipe(folder / _MODEL)
    count = options.forward_images or options.images
    sides: dict[str, Callable[[], float]] = {
        "naive": lambda: rate(options.naive_images, lambda: naive(files[: options.naive_images])),
        "forward, float32": lambda: forward_rate(whole, pictures, max(64, count // 4)),
        "forward, bfloat16": lambda: forward_rate(half, pictures, count),
        "end to end, bfloat16": lambda: ingest_rate(folder, settings, options.images),
        "decoding alone": lambda: decoding_rate(settings, files),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, run in sides.items():
            rates[name].append(run())
        print(f"round {number + 1}: " + ", ".join(f"{name} {taken[-1]:.1f}" for name, taken in rates.items()))
    report(rates, half, cosines)


def report(rates: dict[str, list[float]], embedder: "Embedder", cosines: "np.ndarray[Any, Any]") -> None:
    import torch
    import transformers

    naive, forward = rates["naive"], rates["forward, bfloat16"]
    print("\n| side | images/s (median) | lowest, highest | against naive | against forward, bfloat16 |")
    print("| --- | --- | --- | --- | --- |")
    for name, taken in rates.items():
        against = [
            f"{statistics.median(mine / theirs for mine, theirs in zip(taken, others, strict=True)):.2f}"
            for others in (naive, forward)
        ]
        print(
            f"| {name} | {statistics.median(taken):.1f} | {min(taken):.1f}, {max(taken):.1f} | {' | '.join(against)} |"
        )
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"\ncosine of bfloat16 to float32: least {cosines.min():.5f}, median {np.median(cosines):.5f}")
    print(
        f"{where}, {len(os.sched_getaffinity(0))} cores; torch {torch.__version__}, transformers "
        f"{transformers.__version__}; batch {embedder.batch}"
    )


def write_model(folder: Path) -> None:
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(folder / _MODEL)
    ViTImageProcessor(resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder / _MODEL)
    (folder / "models.toml").write_text(_ROW)
    assert json.loads((folder / _MODEL / "config.json").read_text())["hidden_size"] == 768  # noqa: S101, PLR2004 -- DINOv2's


def load(settings: Settings, precision: Any) -> "Embedder":
    from radsearch.models import find_model
    from radsearch.models.base import load_model

    return load_model(find_model(_MODEL, settings.settings_folder), precision=precision)


def naive_recipe(folder: Path) -> Callable[[Sequence[Path]], object]:
    """What the library's documentation shows."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    processor = AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]  # typed in part
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval().to(device)

    def embed(files: Sequence[Path]) -> object:
        vectors = []
        for start in range(0, len(files), _NAIVE_BATCH):
            images = [Image.open(file).convert("RGB") for file in files[start : start + _NAIVE_BATCH]]
            with torch.inference_mode():
                inputs = processor(images, return_tensors="pt").to(device)
                vectors.append(model(**inputs).last_hidden_state[:, 0].cpu())
        return torch.cat(vectors)

    return embed


def forward_rate(embedder: "Embedder", pictures: Sequence[Any], count: int) -> float:
    import torch

    from radsearch.models.preprocessing import prepare

    some = [prepare(picture, embedder.spec.preprocessing) for picture in pictures]
    squares = [some[number % len(some)] for number in range(embedder.batch)]
    batch = embedder.normalised(squares)
    embedder.features([batch] * 2)
    passes = max(1, count // embedder.batch)

    def run() -> None:
        embedder.features([batch] * passes)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return rate(passes * embedder.batch, run)


def ingest_rate(folder: Path, settings: Settings, images: int) -> float:
    """Without the start: the worker processes are there and the model is loaded when the clock starts."""
    from ingest.run import begin
    from ingest.sources import Archive
    from ingest.whole import ingest_all

    with tempfile.TemporaryDirectory() as index:
        here = replace(settings, index=str(Path(index) / "index"), precision="bfloat16")
        with begin(Archive(folder / "images"), (_MODEL,), here) as run:
            run.ingestion.embedding.embedders()
            taken = rate(
                images, lambda: ingest_all(run.ingestion, lambda: run.archive.files(run.pseudonymizer), lambda: None)
            )
            assert run.ingestion.accounts.images() == images  # noqa: S101 -- or the rate would be of something else
    return taken


def decoding_rate(settings: Settings, files: Sequence[Path]) -> float:
    from ingest.decoding import DecodeJob, WorkOrder, decode_file, identify_file
    from ingest.sources import SourceFile
    from radsearch.models import find_model
    from radsearch.models.devices import expected_gpus
    from radsearch.privacy import Pseudonymizer
    from radsearch.reading.isolation import IsolatedPool, limits_of
    from radsearch.settings import usable_cores

    how = find_model(_MODEL, settings.settings_folder).preprocessing
    travel = expected_gpus(settings.device) > 0
    order = WorkOrder(Pseudonymizer(_SECRET.encode()), (how,), pictures_travel=travel, thumbnails=True)
    sources = [SourceFile(file, file.name, str(file)) for file in files]
    pool = IsolatedPool(order, max(1, usable_cores() - 1), limits_of(settings))

    def run() -> None:
        jobs = [pool.begin(identify_file, sources[start : start + 8]) for start in range(0, len(sources), 8)]
        found: list[Any] = [one for job in jobs for one in job.results()]
        work = [DecodeJob(source, one) for source, one in zip(sources, found, strict=True)]
        pending = [pool.begin(decode_file, work[start : start + 8]) for start in range(0, len(work), 8)]
        for job in pending:
            job.results()

    try:
        pool.begin(identify_file, sources[:8]).results()
        return rate(len(files), run)
    finally:
        pool.close()


def rate(images: int, run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return images / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
