"""Pictures in a report: the queries that went best and worst, each with its first neighbours."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from evaluation.stored import Run

_MONTAGES = 6  # queries, the best and the worst
_THUMBNAIL = 144
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")


def montage(run: Run, pictures: Path) -> str:
    """The queries that went best and worst at 10, of different classes, each with its first neighbours.

    Args:
        run: whose ids are files.
        pictures: the folder that they are in; what is not there, or cannot be read, is said instead of shown.
    """
    order = sorted(range(len(run.ids)), key=lambda place: (run.values["P@10"][place], run.ids[place]))
    worst = _of_different_classes(run, order)
    best = _of_different_classes(run, order[::-1])
    thumbnail = _thumbnails(pictures)
    sections = []
    for heading, places in (("Best queries", best), ("Worst queries", worst)):
        rows = "".join(f"<div>{_row(run, place, thumbnail)}</div>" for place in places)
        sections.append(f"<h2>{heading}</h2>{rows}")
    return "".join(sections)


def side_by_side(first: Run, second: Run, ids: Sequence[str], pictures: Path) -> str:
    """Queries with their first neighbours by each of two runs.

    Args:
        first: whose ids are files.
        second: a run over the same images.
        ids: of the queries, which both runs have.
        pictures: the folder that they are in.
    """
    thumbnail = _thumbnails(pictures)
    rows = []
    for run, name in ((first, "first"), (second, "second")):
        places = {point: place for place, point in enumerate(run.ids)}
        rows.append([f"<div>{name}: {_row(run, places[point], thumbnail)}</div>" for point in ids])
    return "<hr>".join(f"{one}{other}" for one, other in zip(*rows, strict=True))


def _of_different_classes(run: Run, order: Sequence[int]) -> list[int]:
    chosen: dict[tuple[str, ...], int] = {}
    for place in order:
        chosen.setdefault(run.classes[place], place)
        if len(chosen) == _MONTAGES:
            break
    return list(chosen.values())


def _row(run: Run, place: int, thumbnail: Callable[[str], str | None]) -> str:
    figures = [_figure(thumbnail(run.ids[place]), ", ".join(run.classes[place]), "")]
    for near, theirs in zip(run.nearest[place], run.found[place], strict=False):  # of the first few only
        verdict = "right" if set(theirs) & set(run.classes[place]) else "wrong"
        figures.append(_figure(thumbnail(near), ", ".join(theirs), verdict))
    return "".join(figures)


def _figure(picture: str | None, words: str, verdict: str) -> str:
    image = f'<img class="{verdict}" src="{picture}" alt="">' if picture else "<i>no picture</i>"
    return f"<figure>{image}<figcaption>{escape(words)}</figcaption></figure>"


def _eight_bits(picture: Picture.Image) -> Picture.Image:
    """Grey values of more than eight bits from their least to their greatest: Pillow would cut them off at 255."""
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;"):
        return picture.convert("RGB")
    values = np.nan_to_num(np.asarray(picture, np.float64))
    spread = values.max() - values.min()
    grey = (values - values.min()) / (spread or 1.0) * 255
    return Picture.fromarray(grey.astype(np.uint8)).convert("RGB")


def _thumbnails(root: Path) -> Callable[[str], str | None]:
    inside = root.resolve()

    def thumbnail(name: str) -> str | None:
        try:
            file = (inside / name).resolve()
            if not file.is_relative_to(inside) or not file.is_file():
                return None
            with Picture.open(file, formats=_FORMATS) as picture:
                small = _eight_bits(picture)
        except (OSError, SyntaxError, ValueError, RuntimeError, MemoryError, Picture.DecompressionBombError):
            return None
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
        content = io.BytesIO()
        small.save(content, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"

    return thumbnail
