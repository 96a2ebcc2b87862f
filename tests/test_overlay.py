"""The heat lies where it belongs: a bright square, seen by a model of brightness, lights up where it was planted."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from radsearch.evidence import evidence
from radsearch.evidence.comparing import Compared
from radsearch.evidence.drawing import LONGEST_SIDE, colours_of, grey_of, overlay
from radsearch.evidence.placing import Placing
from radsearch.models import Preprocessing
from radsearch.models.preprocessing import prepare
from radsearch.study import Picture

SIZE, SIDE = 64, 16
HOW = {
    name: Preprocessing(SIZE, name, 72 if name == "shortest" else SIZE, "bilinear", (0, 0, 0), (1, 1, 1))
    for name in ("squash", "shortest", "square", "longest")
}
SHAPES = [(100, 100), (100, 160), (160, 100), (37, 50)]
# The square's middle in shares of the picture, from above and from the left; the centre crop shows all of these.
MIDDLES = [(0.35, 0.4), (0.65, 0.5), (0.5, 0.62)]


def with_square(shape: tuple[int, int], middle: tuple[float, float]) -> tuple[Picture, tuple[int, int, int, int]]:
    """Dark grey with a white square, and its rows and columns: (top, bottom, left, right)."""
    picture = np.full(shape, 20, np.uint8)
    half = min(shape) // 10
    row, column = round(middle[0] * shape[0]), round(middle[1] * shape[1])
    picture[row - half : row + half, column - half : column + half] = 255
    return picture, (row - half, row + half, column - half, column + half)


def brightness(picture: Picture, how: Preprocessing) -> np.ndarray:
    """(SIDE, SIDE, 1): the mean over each patch of what the model gets."""
    seen = np.zeros((SIZE, SIZE), np.float32)
    prepared = prepare(picture, how)
    seen[: prepared.shape[0], : prepared.shape[1]] = prepared
    step = SIZE // SIDE
    return seen.reshape(SIDE, step, SIDE, step).mean(axis=(1, 3))[..., None]


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("middle", MIDDLES, ids=str)
def test_a_bright_square_lights_up_where_it_is(
    how: Preprocessing, shape: tuple[int, int], middle: tuple[float, float]
) -> None:
    picture, (top, bottom, left, right) = with_square(shape, middle)
    features = brightness(picture, how)
    found, placing = evidence(features, features), Placing(*shape, (SIDE, SIDE), how)
    heat = placing.spread(found.query, *shape)
    rows, columns = np.nonzero(heat > 0.9 * np.nanmax(heat))
    assert rows.mean() == pytest.approx((top + bottom - 1) / 2, abs=2 + max(shape) / SIZE)
    assert columns.mean() == pytest.approx((left + right - 1) / 2, abs=2 + max(shape) / SIZE)
    box = placing.box(found.pairs[0].query)
    assert left - 1 <= (box[0] + box[2]) / 2 <= right + 1
    assert top - 1 <= (box[1] + box[3]) / 2 <= bottom + 1


def test_beside_the_crop_nothing_is_drawn() -> None:
    """Of 100 x 160, scaled to 72 x 115 and cut to 64 x 64, the model sees 89 of 100 rows and 89 of 160 columns."""
    how, picture = HOW["shortest"], np.full((100, 160), 120, np.uint8)
    placing = Placing(100, 160, (SIDE, SIDE), how)
    spread = placing.spread(np.ones((SIDE, SIDE), np.float32), 100, 160)
    seen = ~np.isnan(spread)
    assert (int(seen.any(axis=1).sum()), int(seen.any(axis=0).sum())) == (
        pytest.approx(89, abs=1),
        pytest.approx(89, abs=1),
    )
    assert np.nonzero(seen.any(axis=0))[0][0] == pytest.approx(36, abs=1)
    image = np.asarray(overlay(picture, np.ones((SIDE, SIDE), np.float32), placing, 1.0))
    assert image[:, 0].tolist() == [[120, 120, 120]] * len(image)
    assert image[0].tolist() == [[120, 120, 120]] * image.shape[1]
    assert image[image.shape[0] // 2, image.shape[1] // 2].tolist() != [120, 120, 120]


def test_of_a_picture_beyond_all_length_its_middle_was_seen() -> None:
    """Scaled from 100 to 72 columns, 64 rows of it are 89: those around the 10,000th of 20,000."""
    first, last = pytest.approx(10_000 - 64 / 0.72 / 2, abs=1), pytest.approx(10_000 + 64 / 0.72 / 2, abs=1)
    for shape, begin, end in (((20_000, 100), 1, 3), ((100, 20_000), 0, 2)):
        placing = Placing(*shape, (SIDE, SIDE), HOW["shortest"])
        assert placing.box((0, 0))[begin] == first
        assert placing.box((SIDE - 1, SIDE - 1))[end] == last
        assert placing.seen.all()


@pytest.mark.parametrize(("name", "seen"), [("square", (10, 16)), ("longest", (10, 16)), ("squash", (16, 16))])
def test_patches_on_what_a_picture_is_filled_up_with_are_known(name: str, seen: tuple[int, int]) -> None:
    """100 x 160 in a square of 160, or at 40 x 64 in one of 64: ten of sixteen rows of patches."""
    how = replace(HOW[name], size=SIZE)
    placing = Placing(100, 160, (SIDE, SIDE), how)
    assert (int(placing.seen.any(axis=1).sum()), int(placing.seen.any(axis=0).sum())) == seen
    assert placing.seen[0, 0] == (name != "square")


def test_what_padding_adds_is_said() -> None:
    picture = np.full((100, 160), 120, np.uint8)
    placing = Placing(100, 160, (SIDE, SIDE), HOW["longest"])
    ones = np.ones((SIDE, SIDE, 1), np.float32)
    found = Compared("m", 1.0, evidence(ones, ones), (picture, picture), (placing, placing))
    assert found.beside == pytest.approx((6 / 16, 6 / 16))
    assert found.is_exact


def test_without_heat_a_picture_is_as_it_is_in_grey() -> None:
    picture = np.zeros((50, 80, 3), np.uint8)
    picture[..., 0] = 200
    placing = Placing(50, 80, (SIDE, SIDE), HOW["squash"])
    ones = np.ones((SIDE, SIDE, 1), np.float32)
    found = Compared("m", 1.0, evidence(ones, ones), (picture, picture), (placing, placing))
    plain, _ = found.drawn(heat=False)
    assert plain.size == (LONGEST_SIDE, LONGEST_SIDE * 50 // 80)
    assert np.unique(np.asarray(plain)).tolist() == [60]  # 0.299 of 200
    heated, _ = found.drawn()
    assert heated.size == plain.size
    assert not np.array_equal(np.asarray(heated), np.asarray(plain))
    assert found.sheet().width == 2 * LONGEST_SIDE + 12


def test_what_takes_away_from_the_cosine_is_not_drawn() -> None:
    picture = np.full((64, 64), 90, np.uint8)
    placing = Placing(64, 64, (2, 2), HOW["squash"])
    image = np.asarray(overlay(picture, np.full((2, 2), -1, np.float32), placing, 1.0))
    assert np.array_equal(image, np.asarray(grey_of(picture).convert("RGB")))
    assert np.array_equal(image, np.asarray(overlay(picture, np.zeros((2, 2), np.float32), placing, 0.0)))


def test_the_colours_get_lighter_evenly() -> None:
    """Lightness L* of CIE 1976: who does not see a colour sees that."""
    colours = colours_of(np.linspace(0, 1, 9))
    linear = np.where(colours / 255 <= 0.04045, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    steps = np.diff(lightness)
    assert steps.min() > 0.8 * steps.mean()
    assert steps.max() < 1.2 * steps.mean()
    assert Image.fromarray(np.rint(colours)[None].astype(np.uint8)).getpixel((0, 0)) == (68, 1, 84)
