"""Resizing on the device gives the bytes of Pillow, those of version 13 whatever the version."""

from dataclasses import replace

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from radsearch.errors import UnreadableImageError
from radsearch.models import Preprocessing
from radsearch.models.inputs import Batch, Inputs, mean_of_map
from radsearch.models.preprocessing import plan, prepare
from radsearch.models.resizing import resize

HOW = Preprocessing(96, "squash", 96, "bicubic", (0.0,) * 3, (1.0,) * 3)
SHAPES = [
    *((40, 30), (96, 96), (512, 512), (301, 224), (79, 131), (1, 1), (7, 300), (640, 480), (1000, 777)),
    *((110, 88), (256, 205), (98, 90), (96, 95), (500, 97), (300, 7)),  # mostly with rows first
]


def pictured(shape: tuple[int, ...], seed: int = 0) -> "np.ndarray":
    """Structure at all scales, with hard black and white, where cubic kernels overshoot."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9), dtype=np.uint8)).resize(shape[1::-1])
    picture = np.asarray(coarse).astype(int) + random.integers(-40, 41, shape[:2])
    picture[random.random(shape[:2]) < 0.02] = 255
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    return picture if len(shape) == 2 else np.stack([picture, picture[::-1], 255 - picture], axis=-1)


def on_device(picture: "np.ndarray", how: Preprocessing) -> "np.ndarray":
    values = torch.from_numpy(picture.copy()).float()
    stack = values[None, None] if picture.ndim == 2 else values.permute(2, 0, 1)[None]
    resized = resize(stack, plan(*picture.shape[:2], how), how.interpolation)[0]
    return (resized[0] if picture.ndim == 2 else resized.permute(1, 2, 0)).numpy()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("way", ["squash", "shortest", "square", "longest"])
def test_every_way_of_resizing_gives_pillows_bytes(way: str, interpolation: str) -> None:
    for how in (
        replace(HOW, resize=way, interpolation=interpolation),
        replace(HOW, resize=way, interpolation=interpolation, shortest_side=110, crop="floor"),
    ):
        for shape in [*SHAPES, (120, 200, 3)]:
            picture = pictured(shape)
            np.testing.assert_array_equal(on_device(picture, how), prepare(picture, how))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("rows_first", [True, False])
def test_rows_are_resized_first_where_they_shrink_twice_as_much(interpolation: str, *, rows_first: bool) -> None:
    """As Pillow 13 does in one call; earlier versions never do."""
    shape = (110, 88) if rows_first else (110, 89 + 14)
    kernel = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    image = Image.fromarray(pictured(shape))
    rows = image.resize((shape[1], 96), kernel).resize((96, 96), kernel)
    columns = image.resize((96, shape[0]), kernel).resize((96, 96), kernel)
    assert (np.asarray(rows) != np.asarray(columns)).any()
    ours = prepare(np.asarray(image), replace(HOW, interpolation=interpolation))
    np.testing.assert_array_equal(ours, rows if rows_first else columns)


@pytest.mark.skipif(int(PIL.__version__.partition(".")[0]) < 13, reason="an earlier Pillow takes the columns first")
def test_the_picture_is_that_of_one_call_of_pillow() -> None:
    random = np.random.default_rng(1)
    shapes = [*SHAPES, *(tuple(int(side) for side in random.integers(1, 300, 2)) for _ in range(200))]
    for shape in shapes:
        for interpolation, kernel in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
            picture = pictured(shape)
            expected = np.asarray(Image.fromarray(picture).resize((96, 96), kernel))
            np.testing.assert_array_equal(prepare(picture, replace(HOW, interpolation=interpolation)), expected)


@pytest.mark.parametrize("shape", [(3, 70000), (70000, 3), (1, 3001)])
def test_of_a_very_long_picture_the_crop_costs_no_more_than_what_it_shows(shape: tuple[int, int]) -> None:
    how = replace(HOW, resize="shortest")
    steps = plan(*shape, how)
    assert max(steps.height, steps.width) < 105 * 96
    picture = pictured(shape)
    middle = tuple(slice((length - min(length, 299)) // 2, (length + min(length, 299)) // 2) for length in shape)
    elsewhere = picture.copy()
    elsewhere[:] = 0
    elsewhere[middle] = picture[middle]
    square = prepare(picture, how)
    assert square.std() > 5
    np.testing.assert_array_equal(square, prepare(elsewhere, how))
    np.testing.assert_array_equal(square, on_device(picture, how))


def test_a_picture_too_long_for_a_square_is_refused_and_not_put_into_gigabytes() -> None:
    with pytest.raises(UnreadableImageError, match="longer than 16384 pixels"):
        prepare(np.zeros((1, 70000), np.uint8), replace(HOW, resize="square"))


@pytest.mark.parametrize("way", ["squash", "shortest", "square", "longest"])
@pytest.mark.parametrize("scale", ["byte", "min-max"])
def test_a_batch_of_pictures_is_the_batch_of_their_squares(way: str, scale: str) -> None:
    how = replace(HOW, resize=way, scale=scale, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    pictures = [pictured(shape, seed) for seed, shape in enumerate([(301, 224), (79, 131), (120, 200, 3), (301, 224)])]
    inputs = Inputs(how, torch.device("cpu"))
    travelled, prepared = inputs.of_pictures(pictures), inputs.of_prepared([prepare(one, how) for one in pictures])
    assert travelled.pixels.shape == (4, 3, 96, 96)
    torch.testing.assert_close(travelled.pixels, prepared.pixels)
    if way == "longest":
        torch.testing.assert_close(travelled.extents, prepared.extents)


def test_normalisation_is_less_the_mean_over_the_deviation() -> None:
    how = replace(HOW, size=1, shortest_side=1, mean=(0.2, 0.4, 0.0), std=(0.5, 0.25, 1.0))
    batch = Inputs(how, torch.device("cpu")).of_prepared([np.array([[51]], np.uint8)])
    np.testing.assert_allclose(batch.pixels.flatten(), [0.0, -0.8, 0.2], atol=1e-6)


def test_min_max_stretches_each_picture_by_its_own_range() -> None:
    how = replace(HOW, size=2, shortest_side=2, scale="min-max")
    squares = [np.array([[10, 20], [30, 60]], np.uint8), np.full((2, 2), 9, np.uint8)]
    batch = Inputs(how, torch.device("cpu")).of_prepared(squares)
    np.testing.assert_allclose(batch.pixels[0, 2].flatten(), [0, 0.2, 0.4, 1.0], atol=1e-6)
    assert (batch.pixels[1] == 0).all()


def test_longest_is_filled_up_with_zeros_below_and_to_the_right_after_normalisation() -> None:
    how = replace(HOW, size=4, shortest_side=4, resize="longest", mean=(1.0,) * 3)
    batch = Inputs(how, torch.device("cpu")).of_prepared([prepare(np.full((8, 4), 0, np.uint8), how)])
    assert batch.extents.tolist() == [[4, 2]]
    np.testing.assert_array_equal(batch.pixels[0, 0], [[-1, -1, 0, 0]] * 4)


def test_the_mean_without_padding_counts_the_positions_that_hold_picture() -> None:
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    batch = Batch(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 17]]))  # 17 of 64 columns reach into the second of four
    assert mean_of_map(features, batch, without_padding=True).item() == np.mean([0, 1, 4, 5, 8, 9, 12, 13])
    assert mean_of_map(features, batch, without_padding=False).item() == 7.5


def test_a_position_counts_from_its_first_pixel_of_picture_at_every_size() -> None:
    for rows in (7, 14, 37, 64):
        size = rows * 16
        features = torch.arange(float(rows)).reshape(1, 1, rows, 1).expand(1, 1, rows, rows)
        for extent in range(1, size + 1):
            batch = Batch(torch.zeros(1, 3, size, size), torch.tensor([[extent, size]]))
            held = -(-extent * rows // size)
            assert mean_of_map(features, batch, without_padding=True).item() == pytest.approx((held - 1) / 2)
