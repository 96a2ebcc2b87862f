"""DCMTK, an independent reader, renders the same files: how far do its pictures and ours agree?

    .venv/bin/python tests/independent_reader.py      rebuilds the table in docs/rendering.md

Compared is what is done to values and colours, so ours are taken whole and with the pixels as they are stored. DCMTK is
given the file's own first window or VOI LUT, or ours where none is stored.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from radsearch.errors import UnreadableImageError
from radsearch.privacy import Pseudonymizer
from radsearch.reading import read
from radsearch.rendering import Rendered, render_with_steps
from radsearch.study import Geometry, StudyImage

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
DATA_STORE = Path(importlib.util.find_spec("data_store").submodule_search_locations[0]) / "data"
DOCUMENT = Path(__file__).parents[1] / "docs" / "rendering.md"
TOOLS = ("dcmj2pnm", "dcml2pnm")  # the second one reads JPEG-LS
GREY_LEVELS, COLOUR_LEVELS, EQUAL_SHARE = 1, 3, 0.999

# Files where DCMTK's picture and ours differ, and the clause that settles who is right.
EXCEPTIONS: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One frame of one file in both readers. share: of pixels within the allowed levels; None where DCMTK gave none."""

    name: str
    frame: int
    photometric: str
    syntax: str
    share: float | None
    largest: int | None
    words: str = ""


def files() -> list[Path]:
    """All files of pydicom-data and of pydicom's own tests."""
    return sorted(path for folder in (DATA_STORE, PYDICOM_FILES) for path in folder.rglob("*") if path.is_file())


def name_of(path: Path) -> str:
    return "/".join(path.parts[-2:])


def compare(path: Path, folder: Path) -> Iterator[Comparison]:
    """The first and the last frame of a file; nothing where our reader gives no picture."""
    try:
        images = list(read(path, Pseudonymizer(bytes(32))))
    except UnreadableImageError:
        return
    header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    syntax = pydicom.uid.UID(header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian))
    for image in dict.fromkeys((images[0], images[-1])):
        whole = replace(image, geometry=Geometry())
        ours = render_with_steps(whole)
        theirs, words = _dcmtk(path, whole, ours, folder)
        share, largest = (None, None) if theirs is None else _agreement(ours.picture, theirs)
        photometric = str(header.get("PhotometricInterpretation", ""))
        yield Comparison(name_of(path), image.frame, photometric, syntax.name, share, largest, words)


def _dcmtk(path: Path, image: StudyImage, ours: Rendered, folder: Path) -> tuple[np.ndarray | None, str]:
    target = folder / "theirs.pnm"
    words = ""
    for tool in TOOLS:
        target.unlink(missing_ok=True)
        command = [tool, "--no-overlays", "--frame", str(image.frame), *_window(image, ours), str(path), str(target)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if target.is_file() and target.stat().st_size:
            return np.asarray(Image.open(target)), ""
        words = words or next((line for line in ended.stderr.splitlines() if line.startswith(("E:", "F:"))), "")
    return None, words.split(": ", 1)[-1]


def _window(image: StudyImage, ours: Rendered) -> list[str]:
    grey = image.greyscale
    if grey is None:
        return []
    if grey.voi_lut is not None:
        return ["--use-voi-lut", "1"]
    if grey.window is not None:
        return ["--use-window", "1"]
    if grey.volume_range is None and (preset := re.search(r"centre (\S+), width (\S+) HU", " ".join(ours.steps))):
        return ["--set-window", preset[1], preset[2]]
    if found := re.search(r"no window stored: (\S+) to (\S+?),", " ".join(ours.steps)):
        low, high = float(found[1]), float(found[2])
        return ["--set-window", str((low + high) / 2 + 0.5), str(high - low + 1)]  # LINEAR: C.11.2.1.2.1
    return ["--set-window", str(2 ** (grey.bits_stored - 1)), str(2**grey.bits_stored)]


def _agreement(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, int]:
    if ours.shape != theirs.shape:
        return 0.0, 255
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    return float(np.mean(difference <= (GREY_LEVELS if ours.ndim == 2 else COLOUR_LEVELS))), int(difference.max())


def all_comparisons() -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        for path in files():
            yield from compare(path, Path(folder))


def main() -> None:
    if not shutil.which(TOOLS[0]):
        sys.exit("DCMTK is not installed: apt-get install dcmtk")
    for row in all_comparisons():
        share = "-" if row.share is None else f"{row.share:.4%}"
        print(row.name, row.frame, row.photometric, row.syntax, share, row.largest, row.words, sep=" | ")


if __name__ == "__main__":
    main()
