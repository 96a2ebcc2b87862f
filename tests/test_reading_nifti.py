"""NIfTI -> `StudyImage`s: every stored orientation looks the same, values keep their meaning, damage is refused."""

import gzip
import itertools
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from radsearch.errors import UnreadableImageError
from radsearch.reading import nifti, nifti_values
from radsearch.reading.nifti import count_frames, is_nifti, read

# (right, anterior, superior), 2 x 3 x 2: value = 100 * superior + 10 * anterior + right, from the patient's left,
# posterior, inferior corner. On the picture anterior is on top and the patient's right on the left.
PATIENT = np.array([[[100 * z + 10 * y + x for z in range(2)] for y in range(3)] for x in range(2)], dtype=np.int16)
FEET = [[21, 20], [11, 10], [1, 0]]
HEAD = [[121, 120], [111, 110], [101, 100]]
TURN_30 = np.array([[np.cos(np.pi / 6), -0.5, 0], [0.5, np.cos(np.pi / 6), 0], [0, 0, 1]])


@pytest.fixture
def write(tmp_path):
    """Writes a volume with nibabel; keywords set header fields after all that nibabel sets."""

    def write_it(pixels, affine=None, *, name="volume.nii", kind=nibabel.Nifti1Image, order="<", **fields):
        header = kind.header_class(endianness=order)
        header.set_data_dtype(pixels.dtype)
        header.set_data_shape(pixels.shape)
        if affine is not None:
            header.set_sform(affine, 1)
            header.set_zooms([*np.sqrt((affine[:3, :3] ** 2).sum(0)), 1, 1, 1, 1][: pixels.ndim])
        header["vox_offset"] = header.single_vox_offset
        for field, value in fields.items():
            header[field] = value
        voxels = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes(order="F")
        content = header.binaryblock + bytes(4) + voxels
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        return path

    return write_it


@pytest.fixture
def said(capfd, caplog, recwarn):
    """All that was printed, logged or warned of."""
    return lambda: [text for text in (*capfd.readouterr(), *caplog.messages, *map(str, recwarn)) if text]


def read_all(path):
    return list(read(path, range(1, count_frames(path) + 1)))


def refusal(path):
    """The one reason that counting and reading give, and whether the file is no picture by nature."""
    with pytest.raises(UnreadableImageError) as error:
        read_all(path)
    return error.value.reason, error.value.skipped


def as_stored(codes):
    """The patient stored so that i, j, k run towards `codes`, and the affine that says so."""
    towards = axcodes2ornt(codes)
    to_stored = nibabel.orientations.ornt_transform(axcodes2ornt("RAS"), towards)
    stored = nibabel.orientations.apply_orientation(PATIENT, to_stored)
    return stored, np.eye(4) @ inv_ornt_aff(to_stored, PATIENT.shape)


def test_a_slice_has_the_patients_right_on_its_left_and_anterior_on_top_feet_first(write):
    images = read_all(write(PATIENT, np.eye(4)))
    assert [image.pixels.tolist() for image in images] == [FEET, HEAD]
    assert [(image.frame, image.frames) for image in images] == [(1, 2), (2, 2)]


def test_lps_as_dicom_stores_it_is_shown_as_it_is_stored_row_by_row(write):
    # stored[i, j, k] = PATIENT[1 - i, 2 - j, k]: i runs to the patient's left, j to posterior
    stored = PATIENT[::-1, ::-1]
    images = read_all(write(stored, np.diag([-1.0, -1.0, 1.0, 1.0])))
    assert [image.pixels.tolist() for image in images] == [FEET, HEAD]
    assert images[0].pixels.tolist() == stored[:, :, 0].T.tolist()


def test_rsp_is_cut_across_its_second_axis(write):
    # stored[i, j, k] = PATIENT[i, 2 - k, j]: j runs to superior, k to posterior
    stored = PATIENT[:, ::-1].transpose(0, 2, 1)
    affine = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    assert [image.pixels.tolist() for image in read_all(write(stored, affine))] == [FEET, HEAD]


@pytest.mark.parametrize(
    "codes",
    ["".join(signs) for axes in itertools.permutations(["LR", "PA", "IS"]) for signs in itertools.product(*axes)],
)
def test_each_of_the_48_stored_orientations_gives_the_same_pictures(write, codes):
    stored, affine = as_stored(codes)
    path = write(stored, affine)
    assert "".join(nibabel.aff2axcodes(nibabel.load(path).affine)) == codes
    assert [image.pixels.tolist() for image in read_all(path)] == [FEET, HEAD]


def test_an_oblique_volume_is_cut_along_its_own_axes(write):
    # turned by 30 degrees around the patient's long axis: each stored axis stays nearest to where it pointed
    affine = np.eye(4)
    affine[:3, :3] = TURN_30 @ np.diag([-1, 1, -1])
    images = read_all(write(PATIENT[::-1, :, ::-1], affine))
    assert [image.pixels.tolist() for image in images] == [FEET, HEAD]


def test_a_qform_is_obeyed_where_there_is_no_sform(write):
    # half a turn around the long axis (quaternion 0, 0, 1): i to the left, j to posterior; qfac -1 turns k down
    path = write(PATIENT[::-1, ::-1, ::-1], qform_code=1, quatern_d=1, pixdim=[-1, 1, 1, 1, 1, 1, 1, 1])
    assert [image.pixels.tolist() for image in read_all(path)] == [FEET, HEAD]


def test_a_qfac_of_0_counts_as_1(write):
    path = write(PATIENT[::-1, ::-1], qform_code=1, quatern_d=1, pixdim=[0, 1, 1, 1, 1, 1, 1, 1])
    assert [image.pixels.tolist() for image in read_all(path)] == [FEET, HEAD]


def test_without_sform_and_qform_the_first_axis_runs_to_the_patients_left(write):
    assert [image.pixels.tolist() for image in read_all(write(PATIENT[::-1]))] == [FEET, HEAD]


@pytest.mark.parametrize("seed", range(8))
def test_a_random_oblique_volume_agrees_with_nibabel(write, seed):
    random = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([0.7, 1.1, 2.5]), [10, -20, 30]
    path = write(random.integers(-1000, 1000, (4, 5, 6), dtype=np.int16), affine, scl_slope=0.5, scl_inter=-3)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    values, (width, height, _) = canonical.get_fdata(), canonical.header.get_zooms()
    images = read_all(path)
    assert len(images) == values.shape[2]
    for z, image in enumerate(images):
        scaled = image.pixels * image.greyscale.rescale_slope + image.greyscale.rescale_intercept
        assert np.array_equal(scaled, np.flipud(np.fliplr(values[:, :, z].T)))
        assert image.geometry.pixel_aspect == pytest.approx(height / width)


def test_only_the_slices_asked_for_are_read_in_the_order_asked(write):
    images = list(read(write(PATIENT, np.eye(4)), [2]))
    assert [(image.frame, image.frames, image.pixels.tolist()) for image in images] == [(2, 2, HEAD)]


def test_a_slice_that_is_no_longer_there_is_a_refusal(write):
    for number in (0, 3):
        with pytest.raises(UnreadableImageError, match="truncated file"):
            list(read(write(PATIENT, np.eye(4)), [number]))


def test_a_pixel_is_as_high_as_the_step_from_posterior_to_anterior(write):
    # 2 mm from left to right, 3 mm from posterior to anterior, 5 mm from slice to slice
    assert read_all(write(PATIENT, np.diag([2.0, 3, 5, 1])))[0].geometry.pixel_aspect == 1.5


def test_the_spacing_follows_the_turned_axes(write):
    # i to superior 5 mm, j to right 2 mm, k to anterior 3 mm
    affine = np.array([[0, 2, 0, 0], [0, 0, 3, 0], [5, 0, 0, 0], [0, 0, 0, 1.0]])
    image = read_all(write(PATIENT.transpose(2, 0, 1), affine))[0]
    assert image.pixels.tolist() == FEET
    assert image.geometry.pixel_aspect == 1.5


@pytest.mark.parametrize("spacing", [(0, 2), (2, 0), (np.nan, 1), (1, np.nan), (np.inf, 1), (1, 21), (21, 1), (0, 0)])
def test_a_spacing_that_cannot_be_counts_as_square(write, spacing):
    for form in ({"affine": np.eye(4)}, {"qform_code": 1}, {}):
        path = write(PATIENT, **form, pixdim=[1, *spacing, 1, 1, 1, 1, 1])
        assert read_all(path)[0].geometry.pixel_aspect == 1


def test_a_negative_spacing_counts_without_its_sign(write):
    path = write(PATIENT[::-1], pixdim=[1, -2, 3, 1, 1, 1, 1, 1])
    assert read_all(path)[0].geometry.pixel_aspect == 1.5
    assert read_all(path)[0].pixels.tolist() == FEET


def test_of_several_volumes_the_first_is_taken(write):
    series = np.stack([PATIENT, PATIENT + 1000, PATIENT + 2000], axis=-1)
    images = read_all(write(series, np.eye(4), name="series.nii.gz"))
    assert [image.pixels.tolist() for image in images] == [FEET, HEAD]
    assert images[0].greyscale.volume_range[1] < 1000
    seven = series.reshape(2, 3, 2, 1, 3, 1, 1)
    assert [image.pixels.tolist() for image in read_all(write(seven, np.eye(4)))] == [FEET, HEAD]


def test_a_picture_in_two_dimensions_is_one_slice(write):
    assert [image.pixels.tolist() for image in read_all(write(PATIENT[:, :, 0], np.eye(4)))] == [FEET]


def test_a_single_coronal_slice_is_one_picture_with_superior_on_top(write):
    # anterior 1: rows from superior to inferior, columns from the patient's right to left
    (image,) = read_all(write(PATIENT[:, 1:2], np.diag([1.0, 1, 4, 1])))
    assert image.pixels.tolist() == [[111, 110], [11, 10]]
    assert image.geometry.pixel_aspect == 4


def test_a_single_sagittal_slice_looks_to_the_left(write):
    # right 1: rows from superior to inferior, columns from anterior to posterior
    (image,) = read_all(write(PATIENT[1:2], np.eye(4)))
    assert image.pixels.tolist() == [[121, 111, 101], [21, 11, 1]]


@pytest.mark.parametrize("shape", [(7,), (7, 1), (1, 1, 7), (1, 1, 1, 1, 9, 9)])
def test_a_series_of_numbers_is_no_picture(write, shape):
    assert refusal(write(np.zeros(shape, np.float32))) == ("no picture: series of numbers", True)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz", "volume"])
def test_both_versions_byte_orders_and_wrappings_are_known_by_content(write, kind, order, name):
    path = write(PATIENT, np.eye(4), kind=kind, order=order, name=name)
    assert is_nifti(path.read_bytes()[:352], path)
    images = read_all(path)
    assert [image.pixels.tolist() for image in images] == [FEET, HEAD]
    assert all(image.pixels.dtype == np.int16 and image.pixels.dtype.isnative for image in images)


def test_what_nibabel_saves_with_extensions_is_read_and_the_extensions_are_not(tmp_path, said):
    image = nibabel.Nifti1Image(PATIENT, np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Marker^Patient" * 50))
    image.header["descrip"], image.header["aux_file"] = b"Marker^Patient", b"MRN-0001"
    image.header["db_name"], image.header["intent_name"] = b"Marker", b"MRN-0001"
    path = tmp_path / "extended.nii.gz"
    nibabel.save(image, path)
    images = read_all(path)
    assert [image.pixels.tolist() for image in images] == [FEET, HEAD]
    assert "Marker" not in repr(images)
    assert "MRN" not in repr(images)
    assert said() == []


def test_other_files_are_not_nifti(tmp_path, write):
    path = tmp_path / "other"
    single = write(PATIENT, np.eye(4)).read_bytes()
    pair = single[:344] + b"ni1\0" + single[348:]
    for content in (b"", b"\x5c", b"\x5c\x01\0\0", single[:347], pair, b"\x1f\x8b", gzip.compress(b"text" * 200)):
        path.write_bytes(content)
        assert not is_nifti(content[:352], path)
    path.write_bytes(b"\x1f\x8b\x08\0" + b"\xff" * 600)
    assert not is_nifti(path.read_bytes(), path)


def test_a_gzip_bomb_is_not_inflated_to_recognise_it(tmp_path, monkeypatch):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    monkeypatch.setattr(gzip, "open", None)
    assert not is_nifti(path.read_bytes()[:352], path)


def test_a_gzip_bomb_gives_no_more_than_is_declared(write):
    path = write(np.zeros((4, 4, 2), np.uint8), np.eye(4))
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(50_000_000)))
    reads = []

    class Counted(gzip.GzipFile):
        def read(self, size=-1):
            reads.append(size)
            return super().read(size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzip, "open", Counted)
        assert [image.pixels.shape for image in read_all(path)] == [(4, 4), (4, 4)]
    assert reads == [32, 1]


def test_stored_values_keep_their_type_beside_their_scale(write):
    image = read_all(write(PATIENT, np.eye(4), scl_slope=2, scl_inter=-1024))[0]
    assert (image.pixels.dtype, image.bits, image.greyscale.bits_stored) == (np.int16, 16, 16)
    assert (image.greyscale.rescale_slope, image.greyscale.rescale_intercept) == (2, -1024)
    assert image.pixels.tolist() == FEET


@pytest.mark.parametrize("slope", [0, np.nan, np.inf])
def test_no_slope_means_stored_values(write, slope):
    grey = read_all(write(PATIENT, np.eye(4), scl_slope=slope, scl_inter=7))[0].greyscale
    assert (grey.rescale_slope, grey.rescale_intercept) == (1, 0)


@pytest.mark.parametrize("code", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", "<>")
def test_whole_numbers_and_floats_of_up_to_64_bits_are_read(write, code, order):
    image = read_all(write((PATIENT % 100).astype(code), np.eye(4), order=order))[0]
    assert image.pixels.dtype == ("f8" if code == "u8" else code)
    assert image.pixels.tolist() == [[21, 20], [11, 10], [1, 0]]
    assert image.greyscale.bits_stored == image.bits == int(code[1]) * 8


@pytest.mark.parametrize("fields", ["RGB", "RGBA"])
@pytest.mark.parametrize("order", "<>")
def test_colour_is_read_without_its_alpha(write, fields, order):
    pixels = np.zeros((2, 1, 2), [(field, "u1") for field in fields])
    pixels["R"][:, 0, 0], pixels["G"][:, 0, 0], pixels["B"][:, 0, 0] = [1, 2], [10, 20], [100, 200]
    image = read_all(write(pixels, np.eye(4), order=order))[0]
    assert image.greyscale is None
    assert (image.pixels.dtype, image.bits) == (np.uint8, 8)
    # 2 x 1 x 2 is one coronal slice; the lower row is the inferior one, the patient's right comes first
    assert image.pixels[1].tolist() == [[2, 20, 200], [1, 10, 100]]


@pytest.mark.parametrize("code", [0, 1, 32, 1792, 1536, 2048, 3, 999])
def test_other_data_types_are_refused(write, code):
    assert refusal(write(PATIENT, np.eye(4), datatype=code)) == ("unsupported NIfTI data type", False)


def test_a_segmentation_is_no_picture(write):
    assert refusal(write(PATIENT, np.eye(4), intent_code=1002)) == ("no picture: segmentation", True)
    with pytest.raises(UnreadableImageError, match="no picture: segmentation"):
        next(read(write(PATIENT, np.eye(4), intent_code=1002), [1]))


def grey_of(path):
    return read_all(path)[0].greyscale


def test_the_range_that_the_header_asks_for_is_taken(write):
    grey = grey_of(write(PATIENT * 100 - 1000, np.eye(4), cal_min=-160, cal_max=240))
    assert (grey.volume_range, grey.modality) == ((-160, 240), None)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (5, 1), (np.nan, 1), (0, np.inf)])
def test_a_range_that_is_none_is_passed_over(write, low, high):
    # 12 values of 0 .. 121, of which the 0.5th percentile is 0 + 0.055 * 1 and the 99.5th 121 - 0.055 * 1
    grey = grey_of(write(PATIENT, np.eye(4), cal_min=low, cal_max=high))
    assert grey.volume_range == pytest.approx((0.055, 120.945))


def test_air_and_bone_in_hounsfield_units_are_ct(write):
    # stored 0 .. 121; * 20 - 1024 gives -1024 .. 1396
    grey = grey_of(write(PATIENT, np.eye(4), scl_slope=20, scl_inter=-1024))
    assert (grey.modality, grey.volume_range) == ("CT", None)


@pytest.mark.parametrize(("slope", "intercept"), [(20, -899), (9, -1000)], ids=["no air", "no bone"])
def test_without_air_or_bone_it_is_not_taken_for_ct(write, slope, intercept):
    grey = grey_of(write(PATIENT, np.eye(4), scl_slope=slope, scl_inter=intercept))
    assert grey.modality is None
    assert grey.volume_range == pytest.approx((0.055 * slope + intercept, 120.945 * slope + intercept))


def test_the_range_is_that_of_the_whole_volume_not_of_a_slice(write):
    # 1001 values 0 .. 1000 over both slices: percentiles 5 and 995
    values = np.concatenate([np.arange(1001), [500]]).astype(np.float32).reshape(3, 167, 2, order="F")
    assert {image.greyscale.volume_range for image in read_all(write(values, np.eye(4)))} == {(5.005, 994.995)}


def test_a_negative_slope_turns_the_range_round(write):
    assert grey_of(write(PATIENT, np.eye(4), scl_slope=-1)).volume_range == pytest.approx((-120.945, -0.055))


def test_what_is_not_finite_does_not_count(write):
    values = PATIENT.astype(np.float32)
    values[0, 0, 0], values[1, 2, 1] = np.nan, np.inf
    # 10 values from 1 to 120
    assert grey_of(write(values, np.eye(4))).volume_range == pytest.approx((1 + 0.045 * 9, 120 - 0.045 * 9))
    assert grey_of(write(np.full_like(values, np.nan), np.eye(4))).volume_range is None


def test_few_bright_voxels_of_a_black_volume_are_seen(write):
    values = np.zeros((20, 20, 2), np.uint8)
    values[3, 3, 1] = 200
    assert grey_of(write(values, np.eye(4))).volume_range == (0, 200)
    assert grey_of(write(values * 0 + 9, np.eye(4))).volume_range is None


def test_a_large_volume_is_judged_by_every_nth_voxel_n_odd(write, monkeypatch):
    # 2000 voxels, at most 1000 of them: 2 would do, 3 is taken: 0, 3 .. 1998, percentiles at 3.33 and 662.67 of 666
    monkeypatch.setattr(nifti_values, "_SAMPLED_VOXELS", 1000)
    values = np.arange(2000, dtype=np.int16).reshape(20, 20, 5, order="F")
    assert grey_of(write(values, np.eye(4))).volume_range == pytest.approx((9.99, 1988.01))


@pytest.mark.parametrize(
    "dim",
    [[3, -2, 3, 2], [3, 2, 0, 2], [0, 2, 3, 2], [8, 2, 3, 2], [-1, 2, 3, 2], [7, 2, 3, 2, 1, 1, 1, -1]],
)
def test_dimensions_that_cannot_be_are_a_damaged_header(write, dim):
    assert refusal(write(PATIENT, np.eye(4), dim=[*dim, *[1] * (8 - len(dim))])) == ("damaged header", False)


@pytest.mark.parametrize("offset", [-352, 1, 351, 352.5, np.nan, np.inf, -np.inf, 1e30])
def test_voxels_that_begin_where_they_cannot_are_a_damaged_header(write, offset):
    for name in ("volume.nii", "volume.nii.gz"):
        assert refusal(write(PATIENT, np.eye(4), vox_offset=offset, name=name)) == ("damaged header", False)


def test_an_offset_of_0_is_that_behind_the_header(write):
    assert read_all(write(PATIENT, np.eye(4), vox_offset=0))[0].pixels.tolist() == FEET


@pytest.mark.parametrize("number", [np.nan, np.inf, 0])
def test_an_affine_that_points_nowhere_is_a_damaged_header(write, number):
    assert refusal(write(PATIENT, sform_code=1, srow_x=[number] * 4)) == ("damaged header", False)


def test_a_file_shorter_than_its_voxels_is_truncated_before_anything_is_read(write):
    path = write(PATIENT, np.eye(4))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableImageError, match="truncated file"):
        count_frames(path)


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_compressed_file_that_is_cut_off_is_truncated(write, kept):
    path = write(np.random.default_rng(0).integers(0, 99, (30, 30, 9), dtype=np.int16), np.eye(4), name="cut.nii.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert refusal(path) == ("truncated file", False)


def test_a_compressed_file_that_holds_less_than_it_declares_is_truncated(write):
    path = write(PATIENT, np.eye(4), name="short.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    assert refusal(path) == ("truncated file", False)


def test_a_wrong_checksum_is_a_damaged_picture(write):
    path = write(np.zeros((30, 30, 9), np.int16), np.eye(4), name="flipped.nii.gz")
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 1
    path.write_bytes(whole)
    assert refusal(path) == ("damaged picture", False)


@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz"])
def test_a_volume_or_a_slice_that_is_too_large_is_refused_before_it_is_read(write, name):
    # 2048 * 1024 * 1025 * 2 bytes are 4 MiB more than 4 GiB; 20,000 * 20,000 * 1 byte are 400 million pixels
    for kind, dim in ((np.int16, [3, 2048, 1024, 1025]), (np.uint8, [2, 20_000, 20_000, 1])):
        path = write(np.zeros((2, 2, 2), kind), np.eye(4), dim=[*dim, 1, 1, 1, 1], name=name)
        assert refusal(path) == ("picture too large", False)
    most = [7, *[2**62] * 7]
    path = write(PATIENT, np.eye(4), kind=nibabel.Nifti2Image, dim=most, name=name)
    assert refusal(path) == ("picture too large", False)


def test_a_missing_file_is_the_disks_fault(tmp_path):
    for attempt in (count_frames, lambda path: list(read(path, [1])), lambda path: is_nifti(b"\x1f\x8b", path)):
        with pytest.raises(FileNotFoundError):
            attempt(tmp_path / "missing.nii")


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz"])
def test_whatever_bits_are_hit_pictures_or_a_refusal_come_out_in_silence(write, kind, name, said):
    affine = np.eye(4)
    affine[:3, :3] = TURN_30
    whole = write(PATIENT, affine, kind=kind, qform_code=1, quatern_d=0.5, scl_slope=2, scl_inter=1).read_bytes()
    path, random, read_as_pictures = write(PATIENT, name=name), np.random.default_rng(7), 0
    for _ in range(200):
        hit = bytearray(whole)
        for bit in random.integers(0, 8 * len(hit), random.integers(1, 9)):
            hit[bit // 8] ^= 1 << (bit % 8)
        if random.random() < 0.2:
            del hit[random.integers(0, len(hit)) :]
        path.write_bytes(gzip.compress(hit) if name.endswith("gz") else hit)
        try:
            pictures = list(read(path, range(1, min(count_frames(path), 9) + 1)))
        except UnreadableImageError:
            continue
        assert all(picture.pixels.ndim >= 2 for picture in pictures)
        read_as_pictures += bool(pictures)
    assert 0 < read_as_pictures < 200
    assert said() == []


def test_whatever_compressed_bytes_are_hit_pictures_or_a_refusal_come_out(write):
    path = write(np.random.default_rng(0).integers(0, 99, (9, 9, 3), dtype=np.int16), np.eye(4), name="hit.nii.gz")
    whole, random, reasons = path.read_bytes(), np.random.default_rng(8), set()
    for _ in range(200):
        hit = bytearray(whole)
        hit[random.integers(0, len(hit))] ^= 1 << random.integers(0, 8)
        path.write_bytes(hit)
        try:
            read_all(path)
        except UnreadableImageError as error:
            reasons.add(error.reason)
    assert "damaged picture" in reasons


def test_nibabel_costs_nothing_until_a_nifti_file_is_read():
    code = f"import sys, {nifti.__name__}; sys.exit('nibabel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
