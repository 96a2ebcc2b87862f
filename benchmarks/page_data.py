"""What page_latency.py shows: clustered vectors, facts spread as an archive's, thumbnails of shapes, CT slices."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from surroundings import tell

from radsearch.index import Index, IndexedImage, open_index
from radsearch.models import built_in_models
from radsearch.models.identity import fingerprint_for
from radsearch.models.weights import find_weights
from radsearch.privacy import load_pseudonymizer
from radsearch.settings import DEFAULT_MODEL, Settings
from radsearch.study import Fingerprint, Picture
from radsearch.thumbnails import FOLDER, Thumbnails, thumbnail_of

_BATCH = 2000
_CLUSTERS, _NOISE = 400, 0.6  # noise: its norm, beside centres of unit length
_PICTURES, _SIDE = 500, 256
# Modality -> its share, regions and views.
_MODALITIES = {
    "XR": (0.45, ("chest", "hand", "knee", "spine"), ("PA", "AP", "lateral")),
    "CT": (0.30, ("chest", "abdomen", "brain", "pelvis"), ("axial",)),
    "MR": (0.15, ("brain", "spine", "knee"), ("axial", "sagittal", "coronal")),
    "US": (0.10, ("abdomen", "lung", "neck"), (None,)),
}
_FINDINGS = (
    "No Finding", "Effusion", "Pneumonia", "Atelectasis", "Edema", "Nodule", "Mass", "Fracture", "Cardiomegaly",
    "Consolidation", "Pneumothorax", "Emphysema", "Fibrosis", "Hernia", "Infarct", "Haemorrhage", "Cyst", "Stone",
    "Osteoarthritis", "Metastasis",
)  # fmt: skip
_DATASETS = ("archive", "trauma", "screening", "teaching")
_OF_STUDY, _OF_SERIES = 12, 6  # images


def settings_in(folder: Path, count: int) -> Settings:
    """Those of the index of so many images in a folder, with a secret and a settings folder of its own."""
    return Settings(
        index=str(folder / f"index-{count}"),
        secret_file=folder / "secret",
        settings_folder=folder / "settings",
        device="cpu",
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that lead a process to the same index."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RADSEARCH_")},
        "RADSEARCH_INDEX": settings.index,
        "RADSEARCH_SECRET_FILE": str(settings.secret_file),
        "RADSEARCH_SETTINGS": str(settings.settings_folder),
        "RADSEARCH_DEVICE": settings.device,
    }


def make_index(settings: Settings, count: int) -> None:
    """Make it, or go on with one that was not finished."""
    spec = built_in_models()[DEFAULT_MODEL]
    fingerprint = fingerprint_for(spec, find_weights(spec, None), settings)
    pseudonymizer = load_pseudonymizer(secret=None, secret_file=settings.secret_file)
    settings = replace(settings, busy_wait_seconds=30)
    with open_index(settings, create_for=[fingerprint], sole_writer=True) as index:
        index.admit([fingerprint], pseudonymizer.check)
        there = index.count()
        if there < count:
            tell(f"making {count - there:,} images in {settings.index}")
            _fill(index, fingerprint, settings.index_folder, there, count)
            index.finish()


def _fill(index: Index, fingerprint: Fingerprint, folder: Path, there: int, count: int) -> None:
    random = np.random.default_rng(0)
    centres = _unit(random.standard_normal((_CLUSTERS, fingerprint.dimension), dtype=np.float32))
    thumbnails = Thumbnails(folder / FOLDER)
    names = [thumbnails.write(thumbnail_of(picture)) for picture in _pictures(random)]
    for start in range(there, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        random = np.random.default_rng((1, start))
        of_study = [number // _OF_STUDY for number in numbers]
        noise = random.standard_normal((len(numbers), fingerprint.dimension), dtype=np.float32)
        centre = centres[np.array(of_study) * 7919 % _CLUSTERS]
        vectors = _unit(centre + noise * np.float32(_NOISE / fingerprint.dimension**0.5))
        index.write([
            IndexedImage(
                str(uuid.UUID(int=number + (4 << 76) + (2 << 62))),
                {fingerprint.model: vector},
                {**_facts(number), "models": [fingerprint.model], "thumbnail": names[number % len(names)]},
            )
            for number, vector in zip(numbers, vectors, strict=True)
        ])  # fmt: skip
        if start % (10 * _BATCH) == 0:
            tell(f"{start:,} images")


def _facts(number: int) -> dict[str, object]:
    """The same for all images of a study, but for its series, findings and instance."""
    study = number // _OF_STUDY
    random = np.random.default_rng((2, study))
    shares = [share for share, _, _ in _MODALITIES.values()]
    modality = str(random.choice(list(_MODALITIES), p=shares))
    _, regions, views = _MODALITIES[modality]
    rank = min(int(random.zipf(1.5)) - 1, len(_FINDINGS) - 1)
    findings = [_FINDINGS[rank]]
    if rank and random.random() < 0.3:  # noqa: PLR2004 -- every third has two
        findings.append(_FINDINGS[1 + rank % (len(_FINDINGS) - 1)])
    view = views[number // _OF_SERIES % len(views)]
    facts = {
        "modality": modality,
        "region": str(random.choice(regions)),
        "pathology": list(dict.fromkeys(findings)),
        "dataset": str(random.choice(_DATASETS, p=(0.7, 0.15, 0.1, 0.05))),
        "sex": str(random.choice(["F", "M"])),
        "age": int(np.clip(random.normal(55, 20), 0, 90)),
        "year": int(random.integers(2005, 2026)),
        "patient": f"patient-{study // 2}",
        "study": f"study-{study}",
        "series": f"series-{number // _OF_SERIES}",
        "instance": f"instance-{number}",
        "content": f"content-{number}",
        "frame": 1,
        "frames": 1,
        "rows": _SIDE,
        "columns": _SIDE,
    }
    return facts | ({"view": view} if view else {})


def _pictures(random: np.random.Generator) -> Iterator[Picture]:
    """Smooth noise with some ellipses, grey."""
    down, across = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    for _ in range(_PICTURES):
        coarse = random.normal(0, 1, (16, 16)).repeat(_SIDE // 16, 0).repeat(_SIDE // 16, 1)
        picture = 60 + 12 * coarse + random.normal(0, 8, (_SIDE, _SIDE))
        for _ in range(int(random.integers(2, 6))):
            (y, x), (height, width) = random.uniform(0.2, 0.8, 2), random.uniform(0.05, 0.35, 2)
            picture += random.uniform(30, 110) * (((down - y) / height) ** 2 + ((across - x) / width) ** 2 < 1)
        yield np.clip(picture, 0, 255).astype(np.uint8)


def write_slice(path: Path, seed: int) -> Path:
    """A CT slice of 512 x 512 numbers of 16 bits: an ellipse of soft tissue with organs, and noise."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    random = np.random.default_rng(seed)
    down, across = (np.mgrid[0:512, 0:512] - 256) / 256
    pixels = np.where((down / 0.65) ** 2 + (across / 0.9) ** 2 < 1, 40.0, -1000.0)
    for _ in range(8):
        (y, x), size = random.uniform(-0.4, 0.4, 2), random.uniform(0.03, 0.2)
        pixels[(down - y) ** 2 + (across - x) ** 2 < size**2] = random.uniform(-800, 800)
    stored = (pixels + random.normal(0, 15, pixels.shape) + 1024).clip(0, 4095).astype(np.uint16)
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID = CTImageStorage
    slice_.SOPInstanceUID, slice_.StudyInstanceUID, slice_.SeriesInstanceUID = (generate_uid() for _ in range(3))
    slice_.PatientID, slice_.Modality, slice_.BodyPartExamined = f"NOBODY-{seed}", "CT", "CHEST"
    slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = 512, 512, 1
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 12, 11, 0
    slice_.PhotometricInterpretation = "MONOCHROME2"
    slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
    slice_.WindowCenter, slice_.WindowWidth = 40, 400
    slice_.PixelData = stored.tobytes()
    slice_.save_as(path, enforce_file_format=True)
    return path


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
