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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset

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
EXCEPTIONS = {
    "13 WindowCenter 600, WindowWidth 900, PixelPaddingValue 500, PixelPaddingRangeLimit 700.dcm": (
        "DCMTK windows padding like any value; PS3.3 C.7.5.1.1.2: it is no part of the image, so we show it black"
    ),
}


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
    """Folder and file; a made file has no folder that matters."""
    return path.name if path.parent.name.startswith("tmp") or "made" in path.parent.name else "/".join(path.parts[-2:])


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
        command = [
            tool,
            "--no-overlays",
            "--frame",
            str(image.frame),
            *_window(path, image, ours),
            str(path),
            str(target),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if target.is_file() and target.stat().st_size:
            return np.asarray(Image.open(target)), ""
        words = words or next((line for line in ended.stderr.splitlines() if line.startswith(("E:", "F:"))), "")
    return None, "DCMTK: " + ": ".join(words.split(": ")[1:2])  # what follows names the file's whole path


def _has_own_window(path: Path) -> bool:
    return "WindowCenter" in pydicom.dcmread(path, force=True, stop_before_pixels=True)


def _window(path: Path, image: StudyImage, ours: Rendered) -> list[str]:
    grey = image.greyscale
    if grey is None:
        return []
    if grey.voi_lut is not None:
        return ["--use-voi-lut", "1"]
    if grey.window is not None:  # in the functional groups DCMTK looks for rescale, but not for windows
        return ["--use-window", "1"] if _has_own_window(path) else ["--set-window", *map(str, grey.window)]
    return _fallback_window(image, ours)


def _fallback_window(image: StudyImage, ours: Rendered) -> list[str]:
    grey = image.greyscale
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


def made_files(folder: Path) -> list[Path]:
    """What the real files lack: DCMTK's own encoders, and the grey-scale steps that are rare in the wild."""
    for source, command in ENCODED:
        subprocess.run([*command, source, folder / f"{' '.join(command)} {source.stem}.dcm"], check=True, timeout=60)
    for number, elements in enumerate(VARIED):
        dataset = pydicom.dcmread(PYDICOM_FILES / "MR_small.dcm")
        values = dataset.pixel_array.astype(np.int64)
        for keyword in ("WindowCenter", "WindowWidth", "PixelPaddingValue", "SmallestImagePixelValue"):
            if keyword in dataset:
                delattr(dataset, keyword)
        dataset.update(_elements(dict(elements)))
        shifted = values << (dataset.HighBit + 1 - dataset.BitsStored)
        dataset.PixelData = shifted.astype("<u2").tobytes()
        words = ", ".join(f"{keyword} {value}" for keyword, value in elements.items() if not isinstance(value, list))
        dataset.save_as(folder / f"{number:02} {words}.dcm")
    return sorted(folder.glob("*.dcm"))


def _elements(stated: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    for keyword, value in stated.items():
        if keyword.startswith("PixelPadding"):
            dataset.add_new(keyword, "SS", value)
        else:
            setattr(dataset, keyword, value)
    return dataset


def _lut(first: int, values: list[int], bits: int) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values), first, bits])
    item.add_new("LUTData", "US", values)
    item.ModalityLUTType = "US"
    return [item]


_MR2, _CT = DATA_STORE / "MR2_UNCR.dcm", PYDICOM_FILES / "CT_small.dcm"
_US = DATA_STORE / "US1_UNCR.dcm"
ENCODED = [
    (_MR2, ["dcmcjpeg", "+e1"]),
    (_MR2, ["dcmcjpeg", "+el"]),
    (_MR2, ["dcmcjpeg", "+ee"]),
    (_MR2, ["dcmcjpls", "+el"]),
    (_MR2, ["dcmcjpls", "+en"]),
    (_MR2, ["dcmcrle"]),
    (_CT, ["dcmcjpeg", "+e1"]),
    (_CT, ["dcmcjpls", "+el"]),
    (_CT, ["dcmcrle"]),
    (_CT, ["dcmconv", "+te"]),
    (_CT, ["dcmconv", "+tb"]),
    (_CT, ["dcmconv", "+td"]),
    (_US, ["dcmcjpeg", "+eb"]),
    (_US, ["dcmcjpeg", "+eb", "+cr"]),
    (_US, ["dcmcjpeg", "+e1"]),
    (_US, ["dcmcjpls", "+el"]),
    (_US, ["dcmcrle"]),
]
_WINDOW = {"WindowCenter": 600, "WindowWidth": 900}
_TWELVE = {"BitsStored": 12, "PixelRepresentation": 0}
VARIED: list[dict[str, Any]] = [
    {**_WINDOW, "VOILUTFunction": "LINEAR"},
    {**_WINDOW, "VOILUTFunction": "SIGMOID"},
    {**_WINDOW, "VOILUTFunction": "LINEAR_EXACT"},
    {**_WINDOW, "WindowWidth": 1},
    {"WindowCenter": [600, 40], "WindowWidth": [900, 80]},
    {**_WINDOW, "PhotometricInterpretation": "MONOCHROME1"},
    {**_WINDOW, "PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    {**_WINDOW, "PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
    {**_WINDOW, "PresentationLUTShape": "INVERSE"},
    {**_WINDOW, "RescaleSlope": "0.5", "RescaleIntercept": "-100"},
    {**_WINDOW, "WindowCenter": -600, "RescaleSlope": "-1", "RescaleIntercept": "0"},
    {**_WINDOW, **_TWELVE, "HighBit": 11},
    {**_WINDOW, **_TWELVE, "HighBit": 15},
    {**_WINDOW, "PixelPaddingValue": 500, "PixelPaddingRangeLimit": 700},
    {"VOILUTSequence": _lut(300, [value * 2 for value in range(500)], 10)},
    {"VOILUTSequence": _lut(300, [value * 2 for value in range(500)], 10), "PhotometricInterpretation": "MONOCHROME1"},
    {**_WINDOW, "ModalityLUTSequence": _lut(200, [value * 3 for value in range(700)], 16)},
    {},
]


def table(rows: Iterable[Comparison]) -> str:
    """Markdown, a line a frame."""
    lines = [
        "| file | frame | photometric | transfer syntax | equal pixels | largest difference | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        measured = ("-", "-") if row.share is None else (f"{row.share:.3%}", str(row.largest))
        words = EXCEPTIONS.get(row.name, row.words)
        lines.append(
            "| " + " | ".join((row.name, str(row.frame), row.photometric, row.syntax, *measured, words)) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    import siblings

    if not shutil.which(TOOLS[0]):
        sys.exit("DCMTK is not installed: apt-get install dcmtk")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as made:
        found = {
            "real files": [row for path in files() for row in compare(path, Path(folder))],
            "made files": [row for path in made_files(Path(made)) for row in compare(path, Path(folder))],
        }
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, rows in found.items():
        begin, end = f"<!-- {name}: rebuilt by tests/independent_reader.py -->\n", f"\n<!-- end of {name} -->"
        compared = [row for row in rows if row.share is not None]
        good = sum(1 for row in compared if row.share >= EQUAL_SHARE)
        summary = f"{len(rows)} frames, {len(compared)} of them read by DCMTK too; {good} agree.\n\n"
        text = text[: text.index(begin) + len(begin)] + summary + table(rows) + text[text.index(end) :]
    begin, end = "<!-- siblings: rebuilt by tests/independent_reader.py -->\n", "\n<!-- end of siblings -->"
    text = text[: text.index(begin) + len(begin)] + siblings.table() + text[text.index(end) :]
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
