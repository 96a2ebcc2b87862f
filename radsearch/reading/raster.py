"""PNG and JPEG -> `StudyImage`, with Pillow."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from radsearch.errors import UnreadableImageError
from radsearch.reading import png
from radsearch.study import Facts, Greyscale, StudyImage

SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_WIDE_GREY = ("I;16", "I;16B", "I;16L", "I")


def read(path: Path) -> StudyImage:
    """Read a PNG or JPEG of 8 or 16 bits as it would be shown: EXIF orientation applied, alpha over black.

    Raises:
        UnreadableImageError: the file is damaged, cut off or a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, which nobody reads here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as opened:
                image = _as_study_image(ImageOps.exif_transpose(opened))
                over_black = ", laid over black" if opened.has_transparency_data else ""
                image = replace(image, encoding=f"{opened.format}, mode {opened.mode}{over_black}")
                if opened.format == "PNG" and _may_lack_rows(opened) and not png.is_whole(path):
                    raise UnreadableImageError("truncated file")
                return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError("picture too large") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError("damaged picture") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the picture's
        reason = "truncated file" if "truncated" in str(error).lower() else "damaged picture"
        raise UnreadableImageError(reason) from error


def _may_lack_rows(opened: Image.Image) -> bool:
    """Rows that are missing come out as zeros, before any palette; interlaced ones lie between the others."""
    last = opened.crop((0, opened.height - 1, opened.width, opened.height))
    return bool(opened.info.get("interlace")) or not np.asarray(last).any()


def _as_study_image(image: Image.Image) -> StudyImage:
    if image.mode in _WIDE_GREY:
        stored = np.asarray(image).astype(np.uint16)
        return StudyImage(stored, Greyscale(bits_stored=16), Facts(), bits=16)
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return StudyImage(np.asarray(image.convert("L")), Greyscale(), Facts())
    colour = np.asarray(_over_black(image))
    if np.array_equal(colour[..., 0], colour[..., 1]) and np.array_equal(colour[..., 0], colour[..., 2]):
        return StudyImage(np.ascontiguousarray(colour[..., 0]), Greyscale(), Facts())
    return StudyImage(colour, None, Facts())


def _over_black(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "black"), layered).convert("RGB")
