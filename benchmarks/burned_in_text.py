"""How much of burned-in text does RADSEARCH_BLANK_TEXT=1 find and blank, and what else does it blank?

    .venv/bin/python benchmarks/burned_in_text.py [--corpus FOLDER]

Names, dates and numbers that a generator makes up are drawn into real pictures, five in a picture, in four sizes and
four manners: light on the picture, grey on it, light with a dark outline, dark on a light box. What differs from the
picture by less than 32 grey levels in the middle is left out. The pictures: sample files of pydicom, rendered as they
are; and of a corpus (a folder with `manifest.csv`: filepath, modality), some of each modality. A string counts as
blanked where 99 % of its letters' pixels are. What is blanked of pictures in which nothing was drawn is counted too;
real ones hold text of their own, so that `--show FOLDER` writes these for the eye.
"""

import argparse
import csv
import importlib.util
import random
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from surroundings import surroundings, tell

from radsearch.privacy import Pseudonymizer
from radsearch.reading import read
from radsearch.rendering import render
from radsearch.rendering.text import find_text
from radsearch.settings import TESSERACT, usable_cores
from radsearch.study import Picture

Mask = NDArray[np.bool_]

_SIZES = (10, 14, 20, 28)  # pixels of the font, from the top of a capital to the bottom of a g
_MANNERS = ("light", "grey", "outline", "dark on a box")
_PLACES = ("top left", "top right", "bottom left", "bottom right", "middle")
_EDGE = 4  # pixels
_WHOLLY = 0.99
_HALF = 128
_TIMED = 12
_LEAST_CONTRAST = 32  # grey levels
_CINE, _CINE_FRAMES = "examples_ybr_color.dcm", range(1, 31, 4)
_SMALLEST = 200  # pixels of the shorter side: less has no room for five strings
_NAMES = (
    "SCHNEIDER", "KOVACS", "O'BRIEN", "MARTINEZ", "YILMAZ", "LINDQVIST", "TANAKA", "DUBOIS", "NOVAK", "ROSSI", "ANNA",
    "PETER", "MARIA", "GEORGE", "EMIL", "CLAIRE", "HANS", "SOFIA", "IVAN", "NINA",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A picture with strings drawn into it: by place their letters' pixels, and the share of the boxes around them."""

    picture: Picture
    letters: dict[str, Mask]
    boxes: float
    size: int
    manner: str
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class Real:
    """A picture as it is."""

    picture: Picture
    source: str
    name: str


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, metavar="FOLDER")
    parser.add_argument("--each", type=int, default=12, metavar="N", help="planted pictures of each modality")
    parser.add_argument("--whole", type=int, default=40, metavar="N", help="unplanted ones of each modality")
    parser.add_argument("--show", type=Path, metavar="FOLDER", help="write blanked pictures for the eye")
    options = parser.parse_args()
    samples = list(_samples())
    planting, unplanted = [*samples], [*samples]
    if options.corpus:
        planting += _of_corpus(options.corpus, options.each, seed=1)
        unplanted += _of_corpus(options.corpus, options.whole, seed=2)
    print(surroundings(["numpy", "pillow", "pydicom"]) + ", " + _version())
    with ThreadPoolExecutor(usable_cores()) as pool:
        _measure_planted(planting, pool.map, options.show)
        _measure_markers(planting, pool.map)
        _measure_cine(pool.map)
        _measure_whole(unplanted, pool.map, options.show)
    _measure_seconds(samples, unplanted[len(samples) :])


def _version() -> str:
    told = subprocess.run([TESSERACT, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 -- fixed
    return told.stdout.splitlines()[0]


def _samples() -> Iterator[Real]:
    """Of every sample of pydicom-data in its plain form, the first frame."""
    found = importlib.util.find_spec("data_store")
    assert found is not None, "needs pydicom-data"  # noqa: S101 -- a benchmark's own need
    assert found.origin is not None  # noqa: S101 -- as above
    for path in sorted((Path(found.origin).parent / "data").glob("*_UNCR.dcm")):
        (image,) = read(path, Pseudonymizer(bytes(32)), [1])
        picture = render(image)
        if min(picture.shape[:2]) >= _SMALLEST:
            yield Real(picture, "samples", path.stem)


def _of_corpus(folder: Path, each: int, *, seed: int) -> list[Real]:
    by_modality = defaultdict(list)
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            by_modality[row["modality"]].append(row["filepath"])
    chosen = random.Random(seed)  # noqa: S311 -- no secret
    found = []
    for modality, names in sorted(by_modality.items()):
        for name in chosen.sample(names, min(each, len(names))):
            picture = np.asarray(Image.open(folder / name).convert("L"))
            found.append(Real(picture, f"corpus {modality}", name))
    return found


def _string(chosen: random.Random) -> str:
    name, other = chosen.sample(_NAMES, 2)
    day, month, year = chosen.randint(1, 28), chosen.randint(1, 12), chosen.randint(1930, 2024)
    number = chosen.randint(10**6, 10**7)
    forms = (f"{name}^{other}", f"{name}, {other}", f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02} 09:41")
    return chosen.choice((*forms, f"ID {number}", f"MRN-{number}"))


def _plant(real: Real, size: int, manner: str, chosen: random.Random) -> Planted:
    """Draw a string into every place that has the room for it."""
    canvas = Image.fromarray(real.picture).convert("RGB")
    font = ImageFont.load_default(size)
    letters: dict[str, Mask] = {}
    taken = np.zeros((canvas.height, canvas.width), bool)
    for place in _PLACES:
        text = _string(chosen)
        left, top, right, bottom = (round(side) for side in font.getbbox(text, stroke_width=1))
        across, down = canvas.width - (right - left), canvas.height - (bottom - top)
        x = {"left": _EDGE, "right": across - _EDGE}.get(place.split()[-1], across // 2)
        y = {"top": _EDGE, "bottom": down - _EDGE}.get(place.split()[0], down // 2)
        box = (slice(max(0, y - _EDGE), y + bottom - top + _EDGE), slice(max(0, x - _EDGE), x + right - left + _EDGE))
        if x < _EDGE or taken[box].any():
            continue
        before = canvas.copy()
        mask = _draw(canvas, (x - left, y - top), text, font, manner)
        if manner in ("light", "grey") and _contrast(before, canvas, mask) < _LEAST_CONTRAST:
            canvas.paste(before)  # nobody could read it
            continue
        taken[box] = True
        letters[place] = mask
    picture = np.asarray(canvas if real.picture.ndim > 2 else canvas.convert("L"))  # noqa: PLR2004 -- it has colours
    return Planted(picture, letters, float(taken.mean()), size, manner, real.source)


Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _draw(canvas: Image.Image, at: tuple[int, int], text: str, font: Font, manner: str) -> Mask:
    """Which pixels the letters have."""
    draw = ImageDraw.Draw(canvas)
    if manner.startswith("dark"):
        left, top, right, bottom = draw.textbbox(at, text, font=font)
        draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=(225,) * 3)
    grey = {"light": 255, "outline": 255, "grey": 170}.get(manner, 15)
    draw.text(at, text, font=font, fill=(grey,) * 3, stroke_width=int(manner == "outline"), stroke_fill=(0, 0, 0))
    mask = Image.new("L", canvas.size)
    ImageDraw.Draw(mask).text(at, text, font=font, fill=255)
    return np.asarray(mask) >= _HALF


def _contrast(before: Image.Image, after: Image.Image, mask: Mask) -> float:
    """By how many grey levels letters are lighter or darker than what they were drawn over, in the middle."""
    then, now = (np.asarray(one.convert("L"), np.int16)[mask] for one in (before, after))
    return float(np.median(np.abs(now - then)))


def _blanked(picture: Picture) -> Mask:
    covered = np.zeros(picture.shape[:2], bool)
    for top, left, bottom, right in find_text(picture):
        covered[top:bottom, left:right] = True
    return covered


Map = Callable[[Callable[[Picture], Mask], Iterable[Picture]], Iterable[Mask]]


def _measure_planted(reals: Sequence[Real], over: Map, show: Path | None) -> None:
    chosen = random.Random(3)  # noqa: S311 -- no secret
    planted = [
        _plant(real, size, _MANNERS[(number + turn) % len(_MANNERS)], chosen)
        for number, real in enumerate(reals)
        for turn, size in enumerate(_SIZES)
    ]
    tell(f"{len(planted)} pictures with {sum(len(one.letters) for one in planted)} strings")
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    blanked = []
    for one, covered in zip(planted, over(_blanked, [one.picture for one in planted]), strict=True):
        blanked.append(float(covered.mean()))
        for place, mask in one.letters.items():
            share = float(covered[mask].mean())
            told = ("size", f"{one.size} px"), ("manner", one.manner), ("place", place), ("pictures", one.source)
            for key in (("all", ""), *told):
                shares[key].append(share)
        if show and any(covered[mask].mean() < _WHOLLY for mask in one.letters.values()):
            _write(one.picture, covered, show / f"missed-{one.source.replace(' ', '-')}-{one.size}-{len(blanked)}.png")
    print("\n| | strings | wholly blanked | of their letters' pixels |\n| --- | --- | --- | --- |")
    for (kind, value), of_key in sorted(shares.items(), key=lambda item: _KINDS.index(item[0][0])):
        wholly = statistics.fmean(share >= _WHOLLY for share in of_key)
        words = f"{kind}: {value}" if value else kind
        print(f"| {words} | {len(of_key)} | {100 * wholly:.0f} % | {100 * statistics.fmean(of_key):.0f} % |")
    boxes = _percent([one.boxes for one in planted])
    print(f"\nblanked: {_percent(blanked)} of the pictures' pixels; the boxes around their strings have {boxes}")


_KINDS = ("all", "size", "manner", "place", "pictures")


def _measure_markers(reals: Sequence[Real], over: Map) -> None:
    """A single letter in a corner: the side marker of a radiograph, and no personal datum."""
    marked = []
    for number, real in enumerate(reals):
        canvas = Image.fromarray(real.picture).convert("L")
        at = (_EDGE if number % 2 else canvas.width - 28, 12)
        mask = _draw(canvas.convert("RGB"), at, "LR"[number % 2], ImageFont.load_default(20), "light")
        marked.append((np.where(mask, np.uint8(255), np.asarray(canvas)), mask))
    hit = [float(covered[mask].mean()) for (_, mask), covered in zip(
        marked, over(_blanked, [picture for picture, _ in marked]), strict=True
    )]  # fmt: skip
    print(f"\nside markers (a letter of 20 px): {sum(share > 0 for share in hit)} of {len(hit)} touched by a blank")


def _measure_cine(over: Map) -> None:
    """One string in the same place of several frames, each looked at by itself."""
    path = Path(pydicom.__file__).parent / "data" / "test_files" / _CINE
    chosen = random.Random(5)  # noqa: S311 -- no secret
    frames = [render(image) for image in read(path, Pseudonymizer(bytes(32)), list(_CINE_FRAMES))]
    share = []
    for _ in range(3):
        seed = chosen.random()
        planted = [_plant(Real(one, "cine", _CINE), 14, "light", random.Random(seed)) for one in frames]  # noqa: S311 -- as above
        for one, covered in zip(planted, over(_blanked, [one.picture for one in planted]), strict=True):
            share.append([float(covered[mask].mean()) >= _WHOLLY for mask in one.letters.values()])
    by_frame = [found for of_frame in share for found in of_frame]
    print(
        f"\ncine, {len(frames)} frames: {100 * statistics.fmean(by_frame):.0f} % of {len(by_frame)} strings in a frame"
    )


def _measure_whole(reals: Sequence[Real], over: Map, show: Path | None) -> None:
    tell(f"{len(reals)} pictures as they are")
    by_source: dict[str, list[float]] = defaultdict(list)
    for real, covered in zip(reals, over(_blanked, [real.picture for real in reals]), strict=True):
        by_source[real.source].append(float(covered.mean()))
        if show and covered.any():
            _write(real.picture, covered, show / f"blanked-{real.source.replace(' ', '-')}-{Path(real.name).stem}.png")
    print("\n| nothing drawn | pictures | something blanked | of all pixels | most, of one picture |")
    print("| --- | --- | --- | --- | --- |")
    for source, shares in by_source.items():
        some = sum(share > 0 for share in shares)
        print(f"| {source} | {len(shares)} | {some} | {_percent(shares)} | {_percent([max(shares)])} |")


def _measure_seconds(*groups: Sequence[Real]) -> None:
    for reals in groups:
        seconds, sides = [], []
        for real in reals[:: max(1, len(reals) // _TIMED)]:
            begun = time.perf_counter()
            find_text(np.bitwise_xor(real.picture, np.uint8(1)))  # as good as the same, and looked for anew
            seconds.append(time.perf_counter() - begun)
            sides.append(max(real.picture.shape))
        if seconds:
            told = f"{statistics.median(seconds):.1f} s an image (most {max(seconds):.1f})"
            print(f"\n{reals[0].source.split()[0]}: {told}, one core, longer sides {min(sides)} to {max(sides)} px")


def _write(picture: Picture, covered: Mask, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.array(Image.fromarray(picture).convert("RGB"))
    colours[covered, 0] = 255
    Image.fromarray(colours).save(path)


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(shares):.2g} %"


if __name__ == "__main__":
    main()
