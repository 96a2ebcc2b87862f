"""Groups of files that hold the same picture in several encodings, and how far their pictures are apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from independent_reader import DATA_STORE, PYDICOM_FILES

from radsearch.privacy import Pseudonymizer
from radsearch.reading import read
from radsearch.rendering import render

EXACT_LEVELS, LOSSY_LEVELS = 2, 8


@dataclass(frozen=True, slots=True)
class Siblings:
    """Two files of one picture.

    levels: how far apart they may be; None where the lossy copy itself is farther from its original than any reader
        could make good (compression of 10 to 80 times, colour at a quarter of the resolution): measured, not asserted.
    """

    plain: Path
    encoded: Path
    levels: int | None

    def largest_difference(self) -> tuple[int, float]:
        """Grey levels, over all frames; and the share of pixels that are within `LOSSY_LEVELS`."""
        shown = [list(_pictures(path)) for path in (self.plain, self.encoded)]
        assert len(shown[0]) == len(shown[1]) > 0
        differences = [np.abs(one.astype(int) - other) for one, other in zip(*shown, strict=True)]
        return max(int(one.max()) for one in differences), float(np.mean([one <= LOSSY_LEVELS for one in differences]))


def _pictures(path: Path) -> Iterator[np.ndarray]:
    return (render(image) for image in read(path, Pseudonymizer(bytes(32))))


def _group(levels: int | None, plain: Path, *encoded: Path) -> list[Siblings]:
    return [Siblings(plain, path, levels) for path in encoded]


def _store(levels: int | None, plain: str, *encoded: str) -> list[Siblings]:
    return _group(levels, DATA_STORE / plain, *(DATA_STORE / name for name in encoded))


def _own(levels: int | None, plain: str, *encoded: str) -> list[Siblings]:
    return _group(levels, PYDICOM_FILES / plain, *(PYDICOM_FILES / name for name in encoded))


LOSSLESS = [
    *_store(EXACT_LEVELS, "693_UNCR.dcm", "693_J2KR.dcm"),
    *_store(EXACT_LEVELS, "RG1_UNCR.dcm", "RG1_J2KR.dcm"),
    *_store(EXACT_LEVELS, "RG3_UNCR.dcm", "RG3_J2KR.dcm"),
    *_store(EXACT_LEVELS, "MR2_UNCR.dcm", "MR2_J2KR.dcm"),
    *_store(EXACT_LEVELS, "US1_UNCR.dcm", "US1_J2KR.dcm"),
    *_store(
        EXACT_LEVELS,
        "emri_small.dcm",
        "emri_small_RLE.dcm",
        "emri_small_big_endian.dcm",
        "emri_small_jpeg_2k_lossless.dcm",
        "emri_small_jpeg_2k_lossless_too_short.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
    ),
    *_store(EXACT_LEVELS, "OBXXXX1A.dcm", "OBXXXX1A_expb.dcm", "OBXXXX1A_rle.dcm"),
    *_store(EXACT_LEVELS, "OBXXXX1A_2frame.dcm", "OBXXXX1A_expb_2frame.dcm", "OBXXXX1A_rle_2frame.dcm"),
    *_store(EXACT_LEVELS, "gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"),
    *_store(EXACT_LEVELS, "color-pl.dcm", "color-px.dcm"),
    *_store(
        EXACT_LEVELS, "SC_rgb.dcm", "SC_rgb_expb.dcm", "SC_rgb_16bit.dcm", "SC_rgb_32bit.dcm", "SC_rgb_expb_32bit.dcm"
    ),
    *_store(EXACT_LEVELS, "SC_rgb_2frame.dcm", "SC_rgb_expb_2frame.dcm", "SC_rgb_expb_16bit_2frame.dcm"),
    *_group(
        EXACT_LEVELS,
        DATA_STORE / "SC_rgb.dcm",
        *(PYDICOM_FILES / f"SC_rgb_{kind}.dcm" for kind in ("rle", "rle_16bit", "rle_32bit", "jpeg_gdcm", "gdcm_KY")),
    ),
    *_own(EXACT_LEVELS, "SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"),
    *_own(
        EXACT_LEVELS,
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_expb.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ),
]

# A lossy file beside what another library once decoded it to.
DECODED_ELSEWHERE = [
    *_group(LOSSY_LEVELS, DATA_STORE / "693_UNCI.dcm", PYDICOM_FILES / "693_J2KI.dcm"),
    *_store(LOSSY_LEVELS, "RG1_UNCI.dcm", "RG1_J2KI.dcm"),
    *_store(LOSSY_LEVELS, "RG3_UNCI.dcm", "RG3_J2KI.dcm"),
    *_store(LOSSY_LEVELS, "MR2_UNCI.dcm", "MR2_J2KI.dcm"),
    *_store(LOSSY_LEVELS, "US1_UNCI.dcm", "US1_J2KI.dcm"),
    *_group(LOSSY_LEVELS, DATA_STORE / "JPEG2000_UNC.dcm", PYDICOM_FILES / "JPEG2000.dcm"),
    *_own(LOSSY_LEVELS, "SC_rgb_jpeg_dcmd.dcm", "SC_rgb_jpeg.dcm"),
    *(
        Siblings(
            DATA_STORE / f"SC_rgb_dcmtk_eb{kind.replace('+', '')}_dcmd.dcm",
            PYDICOM_FILES / f"SC_rgb_dcmtk_+eb+{kind}.dcm",
            LOSSY_LEVELS,
        )
        for kind in ("cr", "cy+n1", "cy+n2", "cy+np", "cy+s2", "cy+s4")
    ),
]

# A lossy file beside its original.
ORIGINALS = [
    *_store(LOSSY_LEVELS, "RG1_UNCR.dcm", "RG1_J2KI.dcm"),
    *_store(None, "MR2_UNCR.dcm", "MR2_J2KI.dcm"),
    *_store(None, "US1_UNCR.dcm", "US1_J2KI.dcm"),
    *_group(None, DATA_STORE / "693_UNCR.dcm", PYDICOM_FILES / "693_J2KI.dcm"),
    *_group(None, DATA_STORE / "JPEG-LL.dcm", PYDICOM_FILES / "JPEG-lossy.dcm"),
    *_group(
        LOSSY_LEVELS,
        DATA_STORE / "SC_rgb.dcm",
        *(
            PYDICOM_FILES / f"SC_rgb_{kind}.dcm"
            for kind in (
                "dcmtk_+eb+cr",
                "dcmtk_+eb+cy+n2",
                "dcmtk_+eb+cy+s2",
                "dcmtk_+eb+cy+s4",
                "jls_lossy_line",
                "jls_lossy_sample",
                "jpeg_dcmtk",
            )
        ),
    ),
    *_group(
        None,
        DATA_STORE / "SC_rgb.dcm",
        *(PYDICOM_FILES / f"SC_rgb_{kind}.dcm" for kind in ("dcmtk_+eb+cy+n1", "dcmtk_+eb+cy+np", "jpeg_lossy_gdcm")),
    ),
    *_own(LOSSY_LEVELS, "SC_rgb_small_odd.dcm", "SC_rgb_small_odd_jpeg.dcm"),
]


def table() -> str:
    """Markdown, a line a pair."""
    lines = ["| plain | encoded | largest difference, grey levels | pixels within 8 |", "| --- | --- | --- | --- |"]
    for kind, pairs in (
        ("**without loss**", LOSSLESS),
        ("**with loss, beside what another library decoded**", DECODED_ELSEWHERE),
        ("**with loss, beside the original**", ORIGINALS),
    ):
        lines.append(f"| {kind} | | | |")
        for pair in pairs:
            largest, share = pair.largest_difference()
            lines.append(f"| {pair.plain.name} | {pair.encoded.name} | {largest} | {share:.2%} |")
    return "\n".join(lines)
