"""How fast is a file turned into its picture, beside the plain pydicom recipe; and how much memory do many frames take?

    .venv/bin/python benchmarks/reading.py
    .venv/bin/python benchmarks/reading.py --memory

The recipe is `dcmread`, `pixel_array`, `apply_modality_lut`, `apply_voi_lut` (colour: `convert_color_space` to RGB), as
its documentation has it; it gives a float array of values, not yet 8 bits. Ours is `read` and `render`: an 8-bit
picture, with facts, pseudonyms, geometry. Both run in turn on the same files in one process on one core.
"""

import argparse
import importlib.util
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from imagecodecs import jpeg2k_encode
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, convert_color_space
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    UltrasoundMultiFrameImageStorage,
)

from radsearch.privacy import Pseudonymizer
from radsearch.reading import FrameChoice, identify, read
from radsearch.rendering import render

_PSEUDONYMIZER = Pseudonymizer(bytes(32))
_ROUNDS = 9
_SECONDS_A_SIDE = 0.4
_PIXEL_DATA = 0x7FE00010
_HEADERS = Path(pydicom.__file__).parent / "data" / "test_files"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print_peak(options.peak_of)
        return
    with tempfile.TemporaryDirectory() as folder:
        (measure_memory if options.memory else measure_speed)(Path(folder))


def measure_speed(folder: Path) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    decoders = "Pillow" if importlib.util.find_spec("pylibjpeg") is None else "pylibjpeg and Pillow"
    print(f"pydicom {pydicom.__version__} with {decoders}; median of {_ROUNDS} rounds, one core\n")
    print("| file | recipe, images/s | ours, images/s | ratio | lowest, highest ratio |")
    print("| --- | --- | --- | --- | --- |")
    files = {
        "CT 512, uncompressed": (write_ct(folder), recipe_grey),
        "CR 2,000, JPEG 2000 lossless": (write_cr(folder), recipe_grey),
        "US 640 x 480, colour JPEG": (write_us(folder, 1), recipe_colour),
        "US cine, 120 frames": (write_us(folder, 120), recipe_colour),
    }
    for name, (path, recipe) in files.items():
        theirs, ours = [], []
        for _ in range(_ROUNDS):
            theirs.append(rate(recipe, path))
            ours.append(rate(show, path))
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        recipe_rate, our_rate, ratio = (statistics.median(column) for column in (theirs, ours, ratios))
        spread = f"{min(ratios):.2f}, {max(ratios):.2f}"
        print(f"| {name} | {recipe_rate:.1f} | {our_rate:.1f} | {ratio:.2f} | {spread} |")


def rate(work: Callable[[Path], object], path: Path) -> float:
    """Files a second."""
    begun, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < _SECONDS_A_SIDE or done == 0:
        work(path)
        done += 1
    return done / spent


def recipe_grey(path: Path) -> NDArray[np.float64]:
    dataset = pydicom.dcmread(path)
    return apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)


def recipe_colour(path: Path) -> NDArray[np.uint8]:
    dataset = pydicom.dcmread(path)
    return convert_color_space(dataset.pixel_array, dataset.PhotometricInterpretation, "RGB")


def show(path: Path) -> None:
    """As an ingest does: the header for the choice of frames, then those frames."""
    chosen = FrameChoice(cine=16, volume=0).of(120, is_cine=True) if "cine" in path.name else None
    for image in read(path, _PSEUDONYMIZER, chosen):
        render(image)


def write_ct(folder: Path) -> Path:
    dataset = pydicom.dcmread(_HEADERS / "CT_small.dcm")
    dataset.PixelData = structured(512, 512, 0, 2500).astype("<i2").tobytes()
    dataset.Rows = dataset.Columns = 512
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    return saved(dataset, folder / "ct.dcm", ExplicitVRLittleEndian)


def write_cr(folder: Path) -> Path:
    dataset = pydicom.dcmread(_HEADERS / "CT_small.dcm")
    pixels = structured(2000, 2000, 0, 4000).astype("<u2")
    dataset.PixelData = encapsulate([bytes(jpeg2k_encode(pixels, reversible=True, codecformat="J2K"))])
    dataset.Rows = dataset.Columns = 2000
    dataset.Modality, dataset.PhotometricInterpretation = "CR", "MONOCHROME1"
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.RescaleIntercept, dataset.WindowCenter, dataset.WindowWidth = 0, 2048, 4096
    for keyword in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue"):
        if keyword in dataset:
            delattr(dataset, keyword)
    return saved(dataset, folder / "cr.dcm", JPEG2000Lossless)


def write_us(folder: Path, frames: int) -> Path:
    dataset = pydicom.dcmread(_HEADERS / "CT_small.dcm")
    for keyword in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue", "RescaleSlope"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SOPClassUID, dataset.Modality, dataset.NumberOfFrames = UltrasoundMultiFrameImageStorage, "US", frames
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PlanarConfiguration = 480, 640, 3, 0
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    encoded = []
    for number in range(frames):
        buffer = io.BytesIO()
        colours = np.stack([structured(480, 640, 0, 255, seed=number + part) for part in range(3)], axis=-1)
        Image.fromarray(colours.astype(np.uint8)).save(buffer, "JPEG", quality=90, subsampling="4:2:2")
        encoded.append(without_jfif(buffer.getvalue()))
    dataset.PixelData = encapsulate(encoded)
    return saved(dataset, folder / ("us.dcm" if frames == 1 else "cine.dcm"), JPEGBaseline8Bit)


def without_jfif(jpeg: bytes) -> bytes:
    """A frame as ultrasound machines write it: the APP0 segment names a file format that it is not in."""
    length = int.from_bytes(jpeg[4:6], "big")
    return jpeg[:2] + jpeg[4 + length :]


def structured(rows: int, columns: int, low: int, high: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Values with structure at all scales, as pictures of the body have it; noise alone would not compress."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.random((9, 9), dtype=np.float32)).resize((columns, rows), Image.Resampling.BICUBIC)
    grain = random.normal(0, 0.01, (rows, columns))
    return np.clip(low + (np.asarray(coarse) + grain) * (high - low), low, high).astype(np.int64)


def saved(dataset: pydicom.Dataset, path: Path, syntax: UID) -> Path:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OB" if syntax.is_encapsulated else "OW"
    dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
    dataset.save_as(path)
    return path


def measure_memory(folder: Path) -> None:
    """Peak resident memory of a process that reads a file frame by frame, beside one that reads none."""
    files = {"nothing": folder / "none", "US cine, 120 colour JPEG frames of 640 x 480": write_us(folder, 120)}
    for frames in (100, 1000):
        files[f"enhanced MR, {frames:,} frames of 512 x 512, uncompressed"] = write_enhanced(folder, frames)
    print("| file | size, MiB | peak, MiB |\n| --- | --- | --- |")
    for name, path in files.items():
        command = [sys.executable, __file__, "--peak-of", str(path)]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 -- our own
        print(f"| {name} | {path.stat().st_size >> 20 if path.exists() else 0} | {peak} |", flush=True)


def write_enhanced(folder: Path, frames: int) -> Path:
    """With functional groups of each frame's own, written frame by frame."""
    dataset = pydicom.dcmread(_HEADERS / "CT_small.dcm")
    dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.4.1", "MR"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames, 512, 512
    groups = []
    for number in range(frames):
        voi, group = pydicom.Dataset(), pydicom.Dataset()
        voi.WindowCenter, voi.WindowWidth = 1000 + number, 2000
        group.FrameVOILUTSequence = [voi]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    del dataset.PixelData
    path = saved_header(dataset, folder / f"enhanced-{frames}.dcm")
    frame = structured(512, 512, 0, 2500).astype("<i2").tobytes()
    with path.open("ab") as stream:
        stream.write(b"\xe0\x7f\x10\x00OW\x00\x00" + (len(frame) * frames).to_bytes(4, "little"))
        for _ in range(frames):
            stream.write(frame)
    return path


def saved_header(dataset: pydicom.Dataset, path: Path) -> Path:
    for tag in [tag for tag in dataset.keys() if tag > _PIXEL_DATA]:  # noqa: SIM118 -- iterating gives elements
        del dataset[tag]
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path)
    return path


def print_peak(path: Path) -> None:
    if path.exists():
        identify(path, _PSEUDONYMIZER, name="")
        for image in read(path, _PSEUDONYMIZER):
            render(image)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(status.split("VmHWM:")[1].split()[0]) >> 10)


if __name__ == "__main__":
    main()
