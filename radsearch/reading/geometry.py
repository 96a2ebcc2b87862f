"""A DICOM header -> `Geometry`: the part of a frame that shows the body, and the shape of its pixels."""

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from radsearch.reading.elements import items_of, number_of, text_of
from radsearch.reading.functional_groups import group_with
from radsearch.study import Box, Geometry

GEOMETRY_TAGS = (
    "Modality", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio",
    "SequenceOfUltrasoundRegions", "ShutterShape", "ShutterLeftVerticalEdge", "ShutterRightVerticalEdge",
    "ShutterUpperHorizontalEdge", "ShutterLowerHorizontalEdge",
)  # fmt: skip

# Spacings that differ by more are taken for mistakes: no detector has such pixels.
_LARGEST_ASPECT = 20.0
_PICTURES = (1, 2, 3)  # Region Spatial Format, PS3.3 C.8.5.5.1.1: 2D, M-mode, spectral; 4 and 5: waveform, graphics
_SMALLEST_SHARE = 0.05  # of the picture: a smaller crop is taken for a mistake of the header
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
ULTRASOUND_REGIONS = "ultrasound regions"  # the reason for a crop
_PROJECTION = frozenset(("CR", "DX", "MG", "IO", "PX", "RG", "XR"))


def read_geometry(header: Dataset, frame_index: int, rows: int, columns: int) -> Geometry:
    """How one frame (index from 0) is to be cut and stretched.

    The aspect is that of Pixel Spacing (in enhanced objects the frame's own), Imager or Nominal Scanned Pixel Spacing,
    or Pixel Aspect Ratio (PS3.3 C.7.6.3.1.7), the first that is stated.
    The crop is the box around the Ultrasound Regions that show echoes (2D, M-mode, spectra; C.8.5.5), outside of which
    text and scales are burned in, or the rectangular Display Shutter (C.7.6.11).
    """
    crop, reason = _ultrasound_box(header, rows, columns), ULTRASOUND_REGIONS
    if crop is None:
        crop, reason = _shutter(header, rows, columns), "display shutter"
    bordered = text_of(header, "Modality").upper() in _PROJECTION
    aspect = _pixel_aspect(header, frame_index)
    return Geometry(crop, reason if crop else "", aspect, empty_borders=bordered)


def _pixel_aspect(header: Dataset, frame_index: int) -> float:
    measures = group_with(header, frame_index, "PixelMeasuresSequence", "PixelSpacing")
    pairs = [_pair(measures, "PixelSpacing"), *(_pair(header, name) for name in (*_SPACINGS, "PixelAspectRatio"))]
    for pair in pairs:
        if pair is not None:
            aspect = pair[0] / pair[1]
            return aspect if 1 / _LARGEST_ASPECT <= aspect <= _LARGEST_ASPECT else 1.0
    return 1.0


def _pair(header: Dataset, keyword: str) -> tuple[float, float] | None:
    """Two positive numbers, between rows first, then between columns; None for anything else."""
    try:
        vertical, horizontal = (float(value) for value in header.get(keyword) or ())
    except Exception:  # noqa: BLE001 -- pydicom decodes late: any element may hold anything
        return None
    if vertical > 0 and horizontal > 0 and max(vertical, horizontal) < float("inf"):
        return vertical, horizontal
    return None


def _ultrasound_box(header: Dataset, rows: int, columns: int) -> Box | None:
    """The box around all regions that show echoes; where none says so, around all regions."""
    regions = [(kind, _within(box, rows, columns)) for kind, box in _regions(header)]
    boxes = [box for kind, box in regions if box and kind in _PICTURES] or [box for _, box in regions if box]
    if not boxes:
        return None
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return _sensible((min(tops), min(lefts), max(bottoms), max(rights)), rows, columns)


def _regions(header: Dataset) -> Iterator[tuple[int, Box]]:
    for region in items_of(header, "SequenceOfUltrasoundRegions"):
        edges = _edges(region, [f"RegionLocation{edge}" for edge in ("MinY0", "MinX0", "MaxY1", "MaxX1")])
        if edges is not None:
            top, left, bottom, right = edges
            yield int(number_of(region, "RegionSpatialFormat") or 0), (top, left, bottom + 1, right + 1)


def _shutter(header: Dataset, rows: int, columns: int) -> Box | None:
    """Edges are counted from 1, and the shutter covers what lies beyond them (PS3.3 C.7.6.11)."""
    try:
        shapes = header.get("ShutterShape") or ""
        rectangular = "RECTANGULAR" in ([shapes] if isinstance(shapes, str) else list(shapes))
    except Exception:  # noqa: BLE001 -- as above
        return None
    sides = ("UpperHorizontal", "LeftVertical", "LowerHorizontal", "RightVertical")
    edges = _edges(header, [f"Shutter{side}Edge" for side in sides]) if rectangular else None
    if edges is None:
        return None
    top, left, bottom, right = edges
    return _sensible((top - 1, left - 1, bottom, right), rows, columns)


def _sensible(box: Box, rows: int, columns: int) -> Box | None:
    """The box within the picture; None where it is empty, tiny or the whole."""
    found = _within(box, rows, columns)
    if found is None or found == (0, 0, rows, columns):
        return None
    top, left, bottom, right = found
    return found if (bottom - top) * (right - left) >= _SMALLEST_SHARE * rows * columns else None


def _within(box: Box, rows: int, columns: int) -> Box | None:
    """The part of a box that lies in the picture; None where there is none."""
    top, left, bottom, right = box
    top, left, bottom, right = max(0, top), max(0, left), min(rows, bottom), min(columns, right)
    return (top, left, bottom, right) if bottom > top and right > left else None


def _edges(header: Dataset, keywords: Sequence[str]) -> Box | None:
    """Top, left, bottom, right as the header numbers them; None where one is missing."""
    edges = [number_of(header, keyword) for keyword in keywords]
    top, left, bottom, right = (None if edge is None else int(edge) for edge in edges)
    if top is None or left is None or bottom is None or right is None:
        return None
    return top, left, bottom, right
