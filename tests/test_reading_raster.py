"""PNG and JPEG -> `StudyImage`: depth, colour, alpha, palette and orientation as shown; damage is one known refusal."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from radsearch.errors import UnreadableImageError
from radsearch.reading import identify, read
from radsearch.rendering import render


@pytest.fixture
def read_one(pseudonymizer):
    """Reads a file of one picture."""

    def read_it(path):
        (image,) = read(path, pseudonymizer)
        return image

    return read_it


@pytest.fixture
def refusal(pseudonymizer, tmp_path):
    """Reads bytes that are no whole picture and gives the error."""

    def refused(content: bytes) -> UnreadableImageError:
        path = tmp_path / "refused"
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError) as error:
            list(read(path, pseudonymizer))
        return error.value

    return refused


def png_claiming(columns: int, rows: int) -> bytes:
    """A valid grey PNG of one row, whose header claims any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(columns + 1)))
        + chunk(b"IEND", b"")
    )


def test_an_eight_bit_png_comes_out_as_it_is(write_png, read_one):
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    image = read_one(write_png(pixels=pixels))
    assert (image.frame, image.frames, image.bits) == (1, 1, 8)
    assert np.array_equal(image.pixels, pixels)
    assert np.array_equal(render(image), pixels)


def test_a_sixteen_bit_png_keeps_its_depth(write_png, read_one):
    pixels = np.array([[0, 1, 255, 256, 40000, 65535]], dtype=np.uint16)
    image = read_one(write_png(pixels=pixels))
    assert (image.bits, image.greyscale.bits_stored) == (16, 16)
    assert image.pixels.tolist() == pixels.tolist()


def test_a_sixteen_bit_png_is_shown_by_its_percentiles(write_png, read_one):
    # 0 .. 1000 in steps of 50: the 0.5th percentile is 5 * 50, the 99.5th 995 * 50; the middle is shown at 127.5
    picture = render(read_one(write_png(pixels=(np.arange(1001, dtype=np.uint16) * 50)[None, :])))
    assert picture[0, [0, 5, 500, 995, 1000]].tolist() == [0, 0, 128, 255, 255]


def test_one_bit_is_black_and_white(tmp_path, read_one):
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[True, False]])).save(path)
    assert render(read_one(path)).tolist() == [[255, 0]]


def test_colour_stays_colour(write_png, read_one):
    pixels = np.array([[[10, 20, 30], [200, 100, 0]]], dtype=np.uint8)
    image = read_one(write_png(pixels=pixels))
    assert image.greyscale is None
    assert np.array_equal(render(image), pixels)


def test_colour_that_is_grey_everywhere_is_read_as_grey(write_png, read_one):
    pixels = np.repeat(np.array([[[7], [250]]], dtype=np.uint8), 3, axis=2)
    image = read_one(write_png(pixels=pixels))
    assert image.greyscale is not None
    assert render(image).tolist() == [[7, 250]]


def test_alpha_is_laid_over_black(write_png, read_one):
    # 200 at alpha 128: 200 * 128 / 255 = 100.4
    pixels = np.array([[[200, 200, 200, 0], [200, 200, 200, 128], [200, 200, 200, 255]]], dtype=np.uint8)
    assert render(read_one(write_png(pixels=pixels))).tolist() == [[0, 100, 200]]


def test_grey_with_alpha_is_laid_over_black(tmp_path, read_one):
    path = tmp_path / "alpha.png"
    Image.merge("LA", [Image.new("L", (2, 1), 200), Image.fromarray(np.array([[0, 255]], np.uint8))]).save(path)
    assert render(read_one(path)).tolist() == [[0, 200]]


def test_the_one_transparent_shade_of_a_grey_png_is_black(tmp_path, read_one):
    path = tmp_path / "transparent.png"
    Image.fromarray(np.array([[200, 100]], np.uint8)).save(path, transparency=200)
    assert render(read_one(path)).tolist() == [[0, 100]]


def test_a_palette_is_looked_up(tmp_path, read_one):
    path = tmp_path / "palette.png"
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(path)
    assert render(read_one(path)).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


def test_a_palette_of_greys_is_read_as_grey(tmp_path, read_one):
    path = tmp_path / "palette.png"
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([9, 9, 9, 200, 200, 200])
    image.save(path)
    assert render(read_one(path)).tolist() == [[9, 200]]


def quadrants() -> np.ndarray:
    """(16, 32): 0 and 80 above, 160 and 240 below; blocks of 8, so that JPEG at quality 100 keeps them."""
    return np.kron(np.array([[0, 80], [160, 240]], dtype=np.uint8), np.ones((8, 16), dtype=np.uint8))


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, [[0, 80], [160, 240]]),
        (2, [[80, 0], [240, 160]]),
        (3, [[240, 160], [80, 0]]),
        (4, [[160, 240], [0, 80]]),
        (5, [[0, 160], [80, 240]]),
        (6, [[160, 0], [240, 80]]),
        (7, [[240, 80], [160, 0]]),
        (8, [[80, 240], [0, 160]]),
    ],
)
def test_the_exif_orientation_of_a_jpeg_is_applied(tmp_path, read_one, orientation, shown):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quadrants()).save(path, quality=100, exif=exif)
    picture = render(read_one(path)).astype(int)
    assert picture.shape == ((16, 32) if orientation <= 4 else (32, 16))
    rows, columns = picture.shape
    middles = picture[rows // 4 :: rows // 2, columns // 4 :: columns // 2]
    assert np.abs(middles - shown).max() <= 2


def test_a_colour_jpeg_is_read(tmp_path, read_one):
    path = tmp_path / "colour.jpg"
    Image.new("RGB", (16, 16), (200, 100, 50)).save(path, quality=100)
    picture = render(read_one(path)).astype(int)
    assert picture.shape == (16, 16, 3)
    assert np.abs(picture - [200, 100, 50]).max() <= 2


def test_a_cmyk_jpeg_is_shown_in_rgb(tmp_path, read_one):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=100)
    picture = render(read_one(path)).astype(int)
    assert np.abs(picture - [255, 0, 0]).max() <= 3


def test_a_file_is_known_by_its_content_not_by_its_ending(write_png, read_one, tmp_path):
    path = write_png("picture.png")
    renamed = path.rename(tmp_path / "picture.dcm")
    assert read_one(renamed).pixels.shape == (48, 40)


def test_a_raster_picture_brings_no_facts(write_png, read_one):
    facts = read_one(write_png()).facts
    assert (facts.patient, facts.labels.modality, facts.year) == (None, None, None)


def test_a_text_file_is_skipped(refusal):
    error = refusal(b"patient,path\nMRN-1,a.png\n" * 20)
    assert (error.reason, error.skipped) == ("not an image", True)


def test_a_picture_of_another_format_is_skipped(tmp_path, refusal):
    Image.new("L", (4, 4)).save(tmp_path / "picture.gif")
    error = refusal((tmp_path / "picture.gif").read_bytes())
    assert (error.reason, error.skipped) == ("not an image", True)


def test_an_empty_file_is_a_failure(refusal):
    error = refusal(b"")
    assert (error.reason, error.skipped) == ("empty file", False)


def test_a_truncated_png_is_refused(write_png, refusal):
    whole = write_png().read_bytes()
    error = refusal(whole[: len(whole) // 2])
    assert (error.reason, error.skipped) == ("truncated file", False)


def test_a_truncated_jpeg_is_refused(tmp_path, refusal):
    path = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    assert refusal(whole[: len(whole) // 2]).reason == "truncated file"


@pytest.mark.parametrize("signature", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"], ids=["png", "jpeg"])
def test_a_signature_with_nothing_behind_it_is_refused(refusal, signature):
    assert refusal(signature).skipped is False


@pytest.mark.parametrize(("columns", "rows"), [(15_000, 15_000), (60_000, 60_000)], ids=["warned", "bomb"])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(refusal, columns, rows):
    assert refusal(png_claiming(columns, rows)).reason == "picture too large"


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_whatever_bytes_are_hit_a_picture_or_a_refusal_comes_out_in_silence(tmp_path, pseudonymizer, recwarn, ending):
    exif = Image.Exif()
    exif[0x0112] = 6
    whole_path = tmp_path / f"whole.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(whole_path, exif=exif)
    whole, random = whole_path.read_bytes(), np.random.default_rng(1)
    path = tmp_path / "hit"
    for _ in range(300):
        hit = bytearray(whole)
        for place in random.integers(0, len(hit), random.integers(1, 6)):
            hit[place] = random.integers(0, 256)
        path.write_bytes(bytes(hit))
        try:
            pictures = [render(image) for image in read(path, pseudonymizer)]
        except UnreadableImageError:
            continue
        assert len(pictures) == 1
    assert [str(warning.message) for warning in recwarn] == []


def test_a_missing_file_is_the_disks_fault(pseudonymizer, tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read(tmp_path / "missing.png", pseudonymizer))


def test_the_identity_of_a_picture_is_its_name_and_its_content(write_png, pseudonymizer):
    first, copy = write_png("a.png", seed=1), write_png("b.png", seed=1)
    one, two = (identify(path, pseudonymizer, name=path.name) for path in (first, copy))
    assert one.content == two.content
    assert one.instance == pseudonymizer.pseudonym("instance", "a.png") != two.instance
    assert one.frames == 1


def png_of(lines: bytes, side: int, *, interlaced: bool) -> bytes:
    """A grey PNG of 8 bits with these scan lines, each behind its filter byte."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, int(interlaced))
    packed = zlib.compress(lines)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", packed[:9])
        + chunk(b"IDAT", packed[9:])
        + chunk(b"IEND", b"")
    )


# Adam7 of 8 x 8 pixels: columns of each line, pass after pass
ADAM7_LINES = [1, 1, 2, *[2] * 2, *[4] * 2, *[4] * 4, *[8] * 4]


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_whose_stream_ends_early_is_truncated(read_one, refusal, tmp_path, interlaced):
    """Pillow leaves the pixels that are missing black, and says nothing."""
    widths = ADAM7_LINES if interlaced else [8] * 8
    lines = b"".join(bytes([0]) + bytes([200]) * width for width in widths)
    whole = tmp_path / "whole"
    whole.write_bytes(png_of(lines, 8, interlaced=interlaced))
    assert read_one(whole).pixels.tolist() == [[200] * 8] * 8
    error = refusal(png_of(lines[: -9 * 2], 8, interlaced=interlaced))
    assert (error.reason, error.skipped) == ("truncated file", False)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "I;16"])
def test_a_whole_png_with_a_black_last_row_is_no_truncated_one(read_one, tmp_path, mode):
    pixels = np.zeros((13, 21), np.uint16 if mode == "I;16" else np.uint8)
    pixels[:7] = 200
    image = Image.fromarray(pixels)
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / "image.png")
    assert read_one(tmp_path / "image.png").pixels.shape[:2] == (13, 21)
