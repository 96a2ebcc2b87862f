"""The seeds of the robustness run: small real files in every encoding, from pydicom's test files and written here."""

import gzip
import importlib.util
import struct
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
DATA_STORE = Path(importlib.util.find_spec("data_store").submodule_search_locations[0]) / "data"

AS_THEY_ARE = (
    PYDICOM_FILES / "CT_small.dcm",  # explicit little endian
    PYDICOM_FILES / "dicomdirtests" / "77654033" / "CR1" / "6154",  # MONOCHROME1, 12 bits
    PYDICOM_FILES / "MR_small_implicit.dcm",
    PYDICOM_FILES / "MR_small_bigendian.dcm",
    PYDICOM_FILES / "MR_small_padded.dcm",
    PYDICOM_FILES / "rtdose.dcm",  # 32 bits, 15 frames, implicit
    PYDICOM_FILES / "image_dfl.dcm",  # deflated
    PYDICOM_FILES / "ExplVR_BigEnd.dcm",  # RGB, big endian
    PYDICOM_FILES / "SC_rgb_small_odd.dcm",
    PYDICOM_FILES / "SC_ybr_full_422_uncompressed.dcm",
    DATA_STORE / "SC_ybr_full_uncompressed.dcm",
    DATA_STORE / "color-pl.dcm",  # RGB, a plane a colour
    PYDICOM_FILES / "liver_1frame.dcm",  # 1 bit, a segmentation
    PYDICOM_FILES / "MR_small_RLE.dcm",
    PYDICOM_FILES / "SC_rgb_rle_2frame.dcm",
    PYDICOM_FILES / "SC_rgb_rle_16bit.dcm",
    PYDICOM_FILES / "SC_rgb_rle_32bit.dcm",
    PYDICOM_FILES / "rtdose_rle.dcm",  # 32 bits, 15 frames
    DATA_STORE / "OBXXXX1A_rle.dcm",  # palette colour
    DATA_STORE / "emri_small_RLE.dcm",  # enhanced MR, 10 frames
    PYDICOM_FILES / "SC_rgb_dcmtk_+eb+cr.dcm",  # JPEG baseline, RGB
    PYDICOM_FILES / "SC_rgb_jpeg_dcmtk.dcm",  # YBR_FULL, 4:4:4
    PYDICOM_FILES / "SC_rgb_dcmtk_+eb+cy+s2.dcm",  # YBR_FULL_422
    PYDICOM_FILES / "SC_rgb_dcmtk_+eb+cy+n2.dcm",  # YBR_FULL, 4:2:0
    PYDICOM_FILES / "SC_jpeg_no_color_transform.dcm",
    PYDICOM_FILES / "JPGExtended.dcm",  # 12 bits
    PYDICOM_FILES / "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless, RGB
    DATA_STORE / "JPEG-LL.dcm",  # JPEG lossless, 16 bits
    PYDICOM_FILES / "MR_small_jpeg_ls_lossless.dcm",
    PYDICOM_FILES / "JPEGLSNearLossless_08.dcm",
    PYDICOM_FILES / "JPEGLSNearLossless_16.dcm",
    PYDICOM_FILES / "SC_rgb_jls_lossy_line.dcm",
    PYDICOM_FILES / "MR_small_jp2klossless.dcm",
    PYDICOM_FILES / "GDCMJ2K_TextGBR.dcm",  # JPEG 2000 lossless, YBR_RCT
    PYDICOM_FILES / "JPEG2000.dcm",  # lossy
    PYDICOM_FILES / "693_J2KI.dcm",
    PYDICOM_FILES / "SC_rgb_gdcm_KY.dcm",
    DATA_STORE / "US1_J2KI.dcm",  # YBR_ICT
    DATA_STORE / "emri_small_jpeg_2k_lossless.dcm",
)
# Too large for thousands of readings: their corner of 64 x 64 keeps every other element.
CROPPED = (
    DATA_STORE / "vlut_04.dcm",  # VOI LUT
    DATA_STORE / "mlut_18.dcm",  # modality LUT
    DATA_STORE / "eCT_Supplemental.dcm",  # enhanced CT, supplemental palette
    PYDICOM_FILES / "examples_palette.dcm",
)


def seeds(folder: Path) -> list[Path]:
    """Write the seeds that no package brings into `folder`; return all seeds, always in one order, names unique."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [*(_cropped(path, folder) for path in CROPPED), *_dicoms(folder), *_pictures(folder), *_volumes(folder)]
    return [*AS_THEY_ARE, *written]


def _cropped(path: Path, folder: Path) -> Path:
    dataset = pydicom.dcmread(path)
    corner = np.ascontiguousarray(dataset.pixel_array[..., :64, :64])
    dataset.Rows, dataset.Columns = 64, 64
    dataset.PixelData = corner.tobytes()
    target = folder / f"cropped_{path.name}"
    dataset.save_as(target)
    return target


def _dicoms(folder: Path) -> list[Path]:
    return [
        _ct_with_oblong_pixels(folder),
        _ultrasound_with_regions(folder),
        _parametric_map(folder, "FloatPixelData", np.dtype("<f4")),
        _parametric_map(folder, "DoubleFloatPixelData", np.dtype("<f8")),
        _one_bit_capture(folder),
        _labelled_as_htj2k(folder),
        _without_preamble("MR_small.dcm", folder),
        _without_preamble("MR_small_implicit.dcm", folder),
    ]


def _dataset(sop_class: str, modality: str, rows: int, columns: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"  # no chance: seeds never differ
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Marker^Patiënt", "MRN-0001", modality
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    return dataset


def _describe(dataset: Dataset, bits: int, *, signed: bool = False) -> None:
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(signed)


def _ct_with_oblong_pixels(folder: Path) -> Path:
    dataset = _dataset(CTImageStorage, "CT", 24, 32)
    _describe(dataset, 16, signed=True)
    pixels = np.random.default_rng(1).integers(-1000, 2000, (24, 32)).astype("<i2")
    pixels[:4] = -2000
    dataset.PixelSpacing, dataset.PixelPaddingValue = [1.5, 0.5], -2000
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -24
    dataset.WindowCenter, dataset.WindowWidth = [40, 600], [400, 1500]
    dataset.PixelData = pixels.tobytes()
    return _saved(dataset, folder / "ct_oblong_pixels.dcm")


def _ultrasound_with_regions(folder: Path) -> Path:
    dataset = _dataset(UltrasoundImageStorage, "US", 48, 64)
    _describe(dataset, 8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 8, 6
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 55, 41
    region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = 3, 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.05, 0.04
    dataset.SequenceOfUltrasoundRegions = [region]
    dataset.PixelData = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8).tobytes()
    return _saved(dataset, folder / "us_regions.dcm")


def _parametric_map(folder: Path, keyword: str, dtype: "np.dtype") -> Path:
    dataset = _dataset(ParametricMapStorage, "MR", 16, 20)
    dataset.BitsAllocated, dataset.NumberOfFrames = dtype.itemsize * 8, 2
    setattr(dataset, keyword, np.linspace(-1, 1, 2 * 16 * 20).astype(dtype).tobytes())
    return _saved(dataset, folder / f"map_{keyword}.dcm")


def _one_bit_capture(folder: Path) -> Path:
    dataset = _dataset(SecondaryCaptureImageStorage, "OT", 24, 24)
    _describe(dataset, 1)
    dataset.PixelData = np.random.default_rng(3).integers(0, 256, 24 * 24 // 8, dtype=np.uint8).tobytes()
    return _saved(dataset, folder / "one_bit.dcm")


def _labelled_as_htj2k(folder: Path) -> Path:
    """Part 1 code blocks under the HTJ2K syntax: no package brings an HTJ2K file or writes one, the decoder is one."""
    dataset = pydicom.dcmread(PYDICOM_FILES / "MR_small_jp2klossless.dcm")
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    return _saved(dataset, folder / "labelled_htj2k.dcm")


def _without_preamble(name: str, folder: Path) -> Path:
    """The bare data set, from group 0008 on, as files were before 1996."""
    path = folder / f"bare_{name}"
    with (PYDICOM_FILES / name).open("rb") as stream:
        pydicom.filereader.read_partial(stream, stop_when=lambda *_: True)
        path.write_bytes(stream.read())
    return path


def _saved(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def _pictures(folder: Path) -> list[Path]:
    rng = np.random.default_rng(4)
    smooth = np.add.outer(np.arange(40) * 3, np.arange(56) * 2).astype(np.uint8)
    rough = smooth ^ rng.integers(0, 16, smooth.shape, dtype=np.uint8)
    grey, grey16 = Image.fromarray(rough), Image.fromarray(rough.astype(np.uint16) * 257 ^ 5)
    colour = Image.fromarray(np.stack([rough, smooth[::-1], 255 - smooth], axis=-1))
    turned = Image.Exif()
    turned[0x0112] = 6  # Orientation: turn by 90 degrees
    plans = {
        "grey.png": (grey, {}),
        "rgb.png": (colour, {}),
        "grey16.png": (grey16, {}),
        "palette_alpha.png": (colour.quantize(16), {"transparency": bytes(range(0, 256, 16))}),
        "grey.jpg": (grey, {}),
        "colour.jpg": (colour, {"subsampling": "4:2:0", "quality": 80}),
        "exif_orientation.jpg": (colour, {"exif": turned, "progressive": True}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
    }
    for name, (image, options) in plans.items():
        image.save(folder / name, **options)
    return [folder / name for name in plans]


def _volumes(folder: Path) -> list[Path]:
    """A NIfTI-1 volume of int16 (nifti1.h: offsets of the 348-byte header), plain and gzipped."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 20, 16, 6, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)  # datatype int16, bits
    struct.pack_into("<8f", header, 76, 1, 0.8, 0.8, 3, 0, 0, 0, 0)
    struct.pack_into("<fff", header, 108, 352, 1, 0)  # vox_offset, scl_slope, scl_inter
    header[123] = 2  # millimetres
    struct.pack_into("<hh", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, 0.8, 0, 0, -8, 0, 0.8, 0, -6, 0, 0, 3, -9)
    header[344:348] = b"n+1\0"
    voxels = np.random.default_rng(5).integers(-100, 900, (6, 16, 20)).astype("<i2")
    content = bytes(header) + voxels.tobytes()
    plain, packed = folder / "volume.nii", folder / "packed.nii.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content, mtime=0))
    return [plain, packed]
