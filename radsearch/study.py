"""The vocabulary: the frozen records that cross the seams between reading, rendering, models, index and search."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[Any]
Picture: TypeAlias = NDArray[np.uint8]
"""(rows, columns) grey or (rows, columns, 3) RGB, 8 bit, as a person would see it."""
Vectors: TypeAlias = NDArray[np.float32]
TEXT_BLANKED = "text blanked"  # how the step of a fingerprint's preprocessing begins that says so
Box: TypeAlias = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels, the last two excluded."""

# DICOM's codes for projection radiography; "XR" stands for all of them when images are grouped or filtered.
XR_CODES = ("XR", "CR", "DX", "RG")


def grouped_modality(modality: str) -> str:
    """`XR` for every code of projection radiography, else the code itself."""
    return "XR" if modality in XR_CODES else modality


@dataclass(frozen=True, slots=True, eq=False)
class LookupTable:
    """A modality or VOI lookup table (DICOM PS3.3 C.11.1, C.11.2).

    first: stored value that maps to `values[0]`; lower ones map there too, higher than the table to its last.
    values: (entries,) numbers; `bits` is their depth, so that the output range is 0 .. 2**bits - 1.
    """

    first: int
    values: NDArray[np.float64]
    bits: int


@dataclass(frozen=True, slots=True)
class Greyscale:
    """All that rendering needs to know of a monochrome frame's stored values (PS3.3 C.7.6.3 and C.11).

    inverted: the smallest value is to be shown white (MONOCHROME1 or Presentation LUT Shape INVERSE).
    window: (centre, width) in the output units of the modality LUT, the first of several.
    padding: (low, high) stored values, both included, that stand for "no picture here".
    volume_range: (low, high) in the output units of the modality LUT, from darkest to brightest, of the whole volume
        that the frame is a part of, where the reader knows it; taken where no window is stored.
    """

    bits_stored: int = 8
    modality: str | None = None
    rescale_slope: float = 1.0
    rescale_intercept: float = 0.0
    modality_lut: LookupTable | None = None
    voi_lut: LookupTable | None = None
    window: tuple[float, float] | None = None
    voi_function: str = "LINEAR"
    inverted: bool = False
    padding: tuple[int, int] | None = None
    volume_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which part of a frame is shown, and in what shape.

    crop: None for the whole frame.
    crop_reason: what asks for the crop, for whoever wants to know why a picture looks as it does.
    pixel_aspect: height of a pixel by its width (row spacing by column spacing); 1 for square ones.
    empty_borders: whether rows and columns at the edges that hold padding or zeros only are cut off.
    """

    crop: Box | None = None
    crop_reason: str = ""
    pixel_aspect: float = 1.0
    empty_borders: bool = False


@dataclass(frozen=True, slots=True)
class TextRisk:
    """Text may be burned into a file's pixels.

    reason: why, in a few words of ours. cropped: whether what is shown is cut to what the text lies outside of.
    """

    reason: str
    cropped: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """What an image shows, as far as somebody has said so."""

    modality: str | None = None
    region: str | None = None
    pathology: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """`MODALITY/region/finding` for each finding; none when modality or region is unknown."""
        if self.modality is None or self.region is None:
            return ()
        return tuple(f"{grouped_modality(self.modality)}/{self.region}/{finding}" for finding in self.pathology)


@dataclass(frozen=True, slots=True)
class Facts:
    """What may leave a file's header or a manifest row: labels, pseudonyms and the few facts on the allow-list.

    body_part: the header's own term for the region (a defined term of PS3.16 Annex L), before it was mapped.
    """

    labels: Labels = field(default_factory=Labels)
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    instance: str | None = None
    dataset: str | None = None
    split: str | None = None
    body_part: str | None = None
    view: str | None = None
    laterality: str | None = None
    sex: str | None = None
    age: int | None = None
    year: int | None = None
    manufacturer: str | None = None
    burned_in: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def completed_by(self, said: "Facts") -> "Facts":
        """These facts, completed or overridden by what a manifest row or an option says."""
        labels = Labels(
            modality=said.labels.modality or self.labels.modality,
            region=said.labels.region or self.labels.region,
            pathology=said.labels.pathology or self.labels.pathology,
        )
        names = ("patient", "study", "series", "dataset", "split", "view", "laterality", "sex", "age", "year")
        stated = {name: getattr(said, name) for name in names if getattr(said, name) is not None}
        return replace(self, labels=labels, extra={**self.extra, **said.extra}, **stated)


@dataclass(frozen=True, slots=True, eq=False)
class StudyImage:
    """One frame as it was read: its stored values, how to show them, and its facts.

    pixels: (rows, columns) stored values of a monochrome frame, any integer or float type; or
        (rows, columns, 3) RGB of a colour frame, `bits` deep.
    greyscale: None for a colour frame.
    geometry: how it is cut and stretched.
    encoding: what kind of file and of pixel data it was, in words.
    frame, frames: number of this frame, counted from 1, and of all in its file.
    text_risk: why text may be burned in; None where its header gives no reason, or there is no header.
    text_places: (top, left, bottom, right) in pixels of its rendered picture, where text was found in it before: they
        are blanked at whatever window it is shown.
    """

    pixels: Pixels
    greyscale: Greyscale | None
    facts: Facts
    bits: int = 8
    frame: int = 1
    frames: int = 1
    geometry: Geometry = field(default_factory=Geometry)
    encoding: str = ""
    text_risk: TextRisk | None = None
    text_places: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells one file from all others without decoding a picture.

    instance: pseudonym of the SOP Instance UID, or of data set and path where a file has none.
    content: keyed hash of the file's bytes.
    frames: how many frames the header declares.
    chosen: the numbers, from 1, of those that are taken (docs/rendering.md).
    text_risk: why text may be burned into them; None where the header gives no reason, or there is none.
    """

    instance: str
    content: str
    frames: int
    chosen: tuple[int, ...] = (1,)
    text_risk: TextRisk | None = None

    @property
    def frame_to_show(self) -> int:
        """The one that stands for the file: the middle one of those that are taken."""
        return self.chosen[(len(self.chosen) - 1) // 2]


@dataclass(frozen=True, slots=True)
class Span:
    """Whole numbers from `low` to `high`, both included; None for no bound on that side."""

    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Which images a search may return. Within a field any value will do; the fields must all agree.

    pathology_all, pathology_none: findings that a hit must have all of, and none of.
    any_of, none_of: values of any other field that is indexed as a word (view, sex, split, manufacturer, ...), by its
        name in the payload. age, year: in years. present, absent: fields that a hit must have, or must not have.
    The `without_*` sets are the query's own points and patients.
    """

    modality: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    pathology: tuple[str, ...] = ()
    pathology_all: tuple[str, ...] = ()
    pathology_none: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    any_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    none_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    age: Span | None = None
    year: Span | None = None
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    without_ids: tuple[str, ...] = ()
    without_patients: tuple[str, ...] = ()
    without_studies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """One image found: `score` is the cosine similarity, or the fusion score of several models; `rank` is from 1.

    A re-ranking changes the rank only; of a search for series the score is the series' (docs/searching.md).

    thumbnail: its name in the index's folder of thumbnails. No fact of the image's: what is said of a file has none.
    probability: that it shares a label path with the query, where one image and one model is searched by, and the model
    was calibrated (`radsearch.search.calibration`); else None.
    """

    id: str
    score: float
    rank: int
    facts: Facts
    frame: int | None = None
    thumbnail: str | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must be the same for two vectors to be comparable (docs/decisions/0003-fingerprint.md).

    weights: the hash of the files that hold them.
    preprocessing: size, resize mode, interpolation, mean, std and pooling, in one line.
    rendering: version of the function that turns stored values into the picture.
    """

    model: str
    weights: str
    dimension: int
    preprocessing: str
    precision: str
    rendering: int

    @property
    def blanking(self) -> str:
        """How text was blanked in the pictures that the model saw; empty where it was not."""
        return next((step for step in self.preprocessing.split("; ") if step.startswith(TEXT_BLANKED)), "")

    def differences(self, other: "Fingerprint") -> list[str]:
        """`field: this -> other` for each field that differs."""
        return [
            f"{name}: {getattr(self, name)} -> {getattr(other, name)}"
            for name in ("model", "weights", "dimension", "preprocessing", "precision", "rendering")
            if getattr(self, name) != getattr(other, name)
        ]
