"""Real small parts for all tests: DICOM files written by pydicom, PNGs written by Pillow, an index in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings

SECRET = "a-secret-for-tests-of-more-than-32-characters"  # noqa: S105 -- protects nothing
# These import every library of models, which takes longer than their tests: the unit ring does not even collect them.
HEAVY = {"test_loaders.py", "test_loader_maps.py", "test_checkpoint_loaders.py", "test_stated.py"}
CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.option.markexpr == "not slow" and collection_path.name in HEAVY else None


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests see no RADSEARCH_* of the user's and write nothing into a home folder."""
    import os

    for name in [
        name for name in os.environ if name.startswith("RADSEARCH_") and not name.startswith("RADSEARCH_TEST_")
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RADSEARCH_SECRET", SECRET)
    monkeypatch.setenv("RADSEARCH_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def pseudonymizer() -> Pseudonymizer:
    return Pseudonymizer(SECRET.encode())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        index=str(tmp_path / "index"),
        secret=SECRET,
        settings_folder=tmp_path / "settings",
        workers=1,
        busy_wait_seconds=0.5,
    )


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real images beside the checkout; tests that use it are skipped where it is missing."""
    if not (CORPUS / "manifest.csv").is_file():
        pytest.skip(f"needs the development corpus in {CORPUS}")
    return CORPUS


@pytest.fixture
def write_png(tmp_path: Path) -> Callable[..., Path]:
    """Writes a PNG of random grey values (by seed) or of the given array, and returns its path."""

    def write(name: str = "image.png", pixels: "np.ndarray[Any, Any] | None" = None, *, seed: int = 0) -> Path:
        if pixels is None:
            pixels = np.random.default_rng(seed).integers(0, 256, (48, 40), dtype=np.uint8)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def write_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Writes an explicit little-endian CT slice and returns its path; keywords set or (with None) remove elements.

    `pixels` is (rows, columns) or (frames, rows, columns), int16 by default.
    """

    def write(name: str = "slice.dcm", pixels: "np.ndarray[Any, Any] | None" = None, **elements: Any) -> Path:
        if pixels is None:
            pixels = np.arange(-60, 60, dtype=np.int16).reshape(10, 12)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _dataset(pixels, elements).save_as(path, enforce_file_format=True)
        return path

    return write


def _dataset(pixels: "np.ndarray[Any, Any]", elements: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientID = "MRN-0001"
    dataset.PatientName = "Marker^Patient"
    dataset.Modality = "CT"
    dataset.BodyPartExamined = "CHEST"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = pixels.shape[0]
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    dataset.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    return dataset
