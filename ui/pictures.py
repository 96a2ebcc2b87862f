"""Pictures: an indexed image's thumbnail, where the index has one, and an upload's as the browser takes it."""

import base64
import io

import numpy as np
from PIL import Image

from radsearch.settings import load_settings
from radsearch.study import Picture
from radsearch.thumbnails import thumbnails_of

_LARGEST_SIDE = 512
_SIGNATURES = {b"\x89PNG": "image/png", b"RIFF": "image/webp", b"\xff\xd8\xff": "image/jpeg"}


def picture_of(thumbnail: str | None) -> bytes | None:
    """An indexed image's thumbnail by its name; None where there is none, or none any more."""
    kept = None if thumbnail is None else thumbnails_of(load_settings())
    return None if kept is None or thumbnail is None else kept.read(thumbnail)


def webp_of(picture: Picture, longest: int = _LARGEST_SIDE) -> bytes:
    """A rendered picture, small enough to travel: its longest side has so many pixels at most."""
    image = Image.fromarray(picture)
    image.thumbnail((longest, longest))
    stream = io.BytesIO()
    image.save(stream, format="WEBP", quality=90)
    return stream.getvalue()


def part_of(picture: bytes, part: tuple[int, int, int, int]) -> bytes:
    """What shows (left, top, right, bottom) in thousandths of a PNG, WebP or JPEG of ours, as WebP."""
    image = Image.open(io.BytesIO(picture))
    left, top, right, bottom = part
    width, height = image.size
    box = width * left // 1000, height * top // 1000, -(-width * right // 1000), -(-height * bottom // 1000)
    return webp_of(np.asarray(image.convert("RGB").crop(box)))


def address_of(picture: bytes) -> str | None:
    """A picture as an address that needs no server; None for what is no PNG, WebP or JPEG."""
    for signature, kind in _SIGNATURES.items():
        if picture.startswith(signature):
            return f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}"
    return None
