"""What the header of a NIfTI volume says and its values mean: place, type and scale, and the range that is shown."""

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from radsearch.errors import UnreadableImageError
from radsearch.study import Greyscale, Pixels

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

_LARGEST_VOLUME_BYTES = 4 << 30  # of the first volume, in its stored type
_LARGEST_SLICE = 200_000_000  # pixels, as in DICOM
_MOST_SLICES = 100_000
_LARGEST_OFFSET = 64 << 20  # header and extensions stand before the voxels: kilobytes, megabytes at the most
_LARGEST_ASPECT = 20.0
_MOST_DIMENSIONS = 7
_PLANE_AXES = 2
_SUPERIOR = 2
_INTENT_LABEL = 1002  # NIFTI_INTENT_LABEL: each value is the number of a structure
_NIBABEL_ERROR = 40  # of its levels, the one from which nibabel refuses a header

_COLOUR_FIELDS = (("R", "G", "B"), ("R", "G", "B", "A"))
_WIDEST_NUMBER_BYTES = 8
_SAMPLED_VOXELS = 16_000_000
_PERCENTILES = (0, 0.5, 99.5, 100)  # the middle two as in radsearch.rendering
_AIR_HU = -900  # CT holds the air around or in the patient, -1000 HU
_TISSUE_HU = 100  # and bone or contrast medium


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """The first volume of a file, as its header declares it.

    shape: voxels along the stored axes i, j, k; i runs fastest.
    offset: byte of the uncompressed file at which the voxels begin.
    volumes: how many there are, this one included.
    orientation: (3, 2), for each stored axis which of right, anterior, superior (0, 1, 2) it is nearest to, and 1 or
        -1 for the way it runs.
    across: the axis of space that the slices are taken across, 2 for axial ones.
    pixel_aspect: height of a pixel by its width in a slice.
    slope, intercept: scaled value = stored value * slope + intercept.
    shown: (darkest, brightest) in scaled units, from cal_min and cal_max; None where they say nothing.
    """

    compressed: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    volumes: int
    orientation: NDArray[np.float64]
    across: int
    pixel_aspect: float
    slope: float
    intercept: float
    shown: tuple[float, float] | None

    @property
    def size(self) -> int:
        """Bytes of this volume."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def slices(self) -> int:
        """How many there are across `across`."""
        return self.shape[_stored_axes(self.orientation)[self.across]]


def interpret_header(header: "Nifti1Header", *, compressed: bool) -> Volume:
    """Hold each field against what may be before it is believed.

    Raises:
        UnreadableImageError: the header is nonsense or of something that is no picture.
        HeaderDataError, ValueError, ArithmeticError: by nibabel, on nonsense.
    """
    if int(header["intent_code"]) == _INTENT_LABEL:
        raise UnreadableImageError("no picture: segmentation", skipped=True)
    shape, volumes = _dimensions([int(length) for length in header["dim"]])
    dtype, offset = _choose_type(header), _offset(header)
    spacing = np.abs(header["pixdim"][1:4].astype(np.float64))  # before nibabel mends it
    orientation = _orientation(header)
    axes = list(enumerate(_stored_axes(orientation)))
    across = next((axis for axis, stored in axes if shape[stored] == 1), _SUPERIOR)
    columns, rows = (stored for axis, stored in axes if axis != across)
    if shape[axes[across][1]] > _MOST_SLICES:
        raise UnreadableImageError("picture too large")
    if math.prod(shape) * dtype.itemsize > _LARGEST_VOLUME_BYTES or shape[rows] * shape[columns] > _LARGEST_SLICE:
        raise UnreadableImageError("picture too large")
    aspect = _aspect(spacing[rows] / spacing[columns])
    return Volume(
        compressed, shape, dtype, offset, volumes, orientation, across, aspect, *_scale(header), _shown(header)
    )


def _dimensions(dim: list[int]) -> tuple[tuple[int, ...], int]:
    """The header's `dim` -> voxels along i, j, k and number of volumes."""
    if not 1 <= dim[0] <= _MOST_DIMENSIONS or min(dim[1 : dim[0] + 1]) < 1:
        raise UnreadableImageError("damaged header")
    lengths = [*dim[1 : dim[0] + 1], 1, 1]
    shape = tuple(lengths[:3])
    if sum(length > 1 for length in shape) < _PLANE_AXES:
        raise UnreadableImageError("no picture: series of numbers", skipped=True)  # time courses, CIFTI
    return shape, math.prod(lengths[3:])


def _choose_type(header: "Nifti1Header") -> np.dtype[Any]:
    """Whole numbers and floats of up to 64 bits, RGB24 and RGBA32; no complex numbers, no 128 bits, no single bits."""
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise UnreadableImageError("unsupported NIfTI data type") from error
    number = dtype.kind in "iuf" and 0 < dtype.itemsize <= _WIDEST_NUMBER_BYTES
    if not (number or dtype.names in _COLOUR_FIELDS):
        raise UnreadableImageError("unsupported NIfTI data type")
    return dtype


def _offset(header: "Nifti1Header") -> int:
    offset, least = float(header["vox_offset"]), float(header.single_vox_offset)
    offset = offset or least
    if not (least <= offset <= _LARGEST_OFFSET and offset.is_integer()):
        raise UnreadableImageError("damaged header")
    return int(offset)


def _orientation(header: "Nifti1Header") -> NDArray[np.float64]:
    """Where each stored axis runs, by sform, qform or neither, after what nibabel mends in a header that it loads."""
    from nibabel.orientations import io_orientation

    header["pixdim"][~np.isfinite(header["pixdim"])] = 1
    silent = logging.Logger("nifti", logging.CRITICAL + 1)  # noqa: LOG001 -- known to nobody, so that nobody prints it
    header.check_fix(silent, _NIBABEL_ERROR)
    orientation: NDArray[np.float64] = io_orientation(header.get_best_affine())
    if not np.isfinite(orientation).all():
        raise UnreadableImageError("damaged header")  # two axes run the same way
    return orientation


def _stored_axes(orientation: NDArray[np.float64]) -> list[int]:
    """The stored axis that is nearest to each of right, anterior and superior."""
    return [int(stored) for stored in np.argsort(orientation[:, 0])]


def _aspect(stated: float) -> float:
    return float(stated) if 1 / _LARGEST_ASPECT <= stated <= _LARGEST_ASPECT else 1.0


def _scale(header: "Nifti1Header") -> tuple[float, float]:
    """A slope of 0 means stored values (nifti1.h), and so does none; nibabel refuses a slope with a wrong intercept."""
    slope, intercept = header.get_slope_inter()
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept))


def _shown(header: "Nifti1Header") -> tuple[float, float] | None:
    darkest, brightest = float(header["cal_min"]), float(header["cal_max"])
    return (darkest, brightest) if math.isfinite(brightest - darkest) and darkest < brightest else None


def describe_values(stored: Pixels, volume: Volume) -> Greyscale | None:
    """How to show a volume's values; None for colour.

    The range is the header's own (cal_min to cal_max). Without one, a volume that reaches from -900 or below to above
    100 is taken to be CT in Hounsfield units. Of any other the range is from the 0.5th to the 99.5th percentile of its
    finite values, or from the least to the greatest where these are equal; none where all values are. A volume of
    more than 16 million voxels is judged by every n-th of them.

    Args:
        stored: (i, j, k) stored values.
        volume: what the header says of them.
    """
    if stored.dtype.names:
        return None
    bits = stored.dtype.itemsize * 8
    grey = Greyscale(bits_stored=bits, rescale_slope=volume.slope, rescale_intercept=volume.intercept)
    if volume.shown is not None:
        return replace(grey, volume_range=volume.shown)
    sample = _finite_sample(stored)
    if sample.size == 0:
        return grey
    with np.errstate(all="ignore"):
        marks = np.percentile(sample, _PERCENTILES, overwrite_input=True) * volume.slope + volume.intercept
    least, low, high, greatest = sorted(float(mark) for mark in marks)  # a negative slope turns them round
    if least <= _AIR_HU and greatest > _TISSUE_HU:
        return replace(grey, modality="CT")
    if low == high:
        low, high = least, greatest
    return replace(grey, volume_range=(low, high)) if low < high and math.isfinite(high - low) else grey


def _finite_sample(stored: Pixels) -> NDArray[np.float64]:
    """Every n-th voxel as it is stored, n odd: most axes have even lengths, and so all columns get their turn."""
    step = -(-stored.size // _SAMPLED_VOXELS)
    sample = stored.reshape(-1, order="F")[:: step | 1].astype(np.float64)
    return sample[np.isfinite(sample)]


def own_pixels(shown: Pixels) -> Pixels:
    """A slice of its own in memory: (rows, columns) in the machine's byte order, or (rows, columns, 3) uint8."""
    if shown.dtype.names:
        interleaved = np.array(shown, order="C").view(np.uint8).reshape(*shown.shape, -1)
        return np.ascontiguousarray(interleaved[..., :3])
    # A table of uint64 values would not fit the signed numbers that rendering counts in.
    own = np.dtype(np.float64) if shown.dtype.str[1:] == "u8" else shown.dtype.newbyteorder("=")
    return np.array(shown, dtype=own, order="C")
