"""The damaged files of the robustness run: always the same, of every kind, none of them sound."""

import hashlib
import itertools
import re
from collections import Counter

import numpy as np
import pydicom
import pytest
from mutant_anatomy import read_dicom, read_seed
from mutants import KINDS, Mutant, kinds, mutant, mutants, seeds

COUNT = 1200


@pytest.fixture(scope="module")
def seed_files(tmp_path_factory):
    return seeds(tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="module")
def made(seed_files):
    """(seed, kind, name, digest) of each: a list of the mutants themselves would hold all bombs at once."""
    return [summary(one) for one in mutants(seed_files, COUNT)]


def summary(one: Mutant):
    return one.seed, one.kind, one.name, hashlib.sha256(one.content).digest()


def test_there_are_many_small_seeds_with_names_of_their_own(seed_files) -> None:
    assert len(seed_files) >= 36
    assert len({path.name for path in seed_files}) == len(seed_files)
    assert max(path.stat().st_size for path in seed_files) < 200_000
    assert sum(path.stat().st_size for path in seed_files) < 2_000_000


def test_seeds_written_twice_are_the_same(seed_files, tmp_path) -> None:
    again = seeds(tmp_path / "again")
    assert [(path.name, path.read_bytes()) for path in again] == [(path.name, path.read_bytes()) for path in seed_files]


def test_every_seed_is_taken_apart_and_put_together_without_loss(seed_files) -> None:
    for seed in map(read_seed, seed_files):
        assert 0 < seed.pixels_at < len(seed.content)
        if seed.dicom:
            assert read_seed_again(seed.dicom.written(), seed) == seed.dicom.body
            assert seed.dicom.elements[-1].start < len(seed.dicom.body)


def read_seed_again(content, seed):
    assert content == seed.content or seed.dicom.syntax.endswith(".99")
    return read_dicom(content).body


def test_the_seeds_elements_are_where_pydicom_finds_them(seed_files) -> None:
    for path, seed in ((path, read_seed(path)) for path in seed_files):
        if seed.dicom:
            known = pydicom.dcmread(path, force=True)
            assert [chunk.tag for chunk in seed.dicom.dataset] == [int(tag) for tag in known.keys()]  # noqa: SIM118 -- a Dataset iterates over elements


def test_same_arguments_give_the_same_bytes(seed_files, made) -> None:
    assert [summary(one) for one in mutants(seed_files, 300)] == made[:300]
    assert summary(mutant(seed_files, 777)) == made[777]


def test_another_random_seed_gives_other_bytes(seed_files, made) -> None:
    others = [summary(one) for one in mutants(seed_files, 200, random_seed=1)]
    assert sum(one == other for one, other in zip(made[:200], others, strict=True)) < 20


def test_the_count_is_exact_and_names_are_file_names(made) -> None:
    names = {name for _, _, name, _ in made}
    assert len(made) == len(names) == COUNT
    assert all(re.fullmatch(r"[\w.+-]+", name) for name in names)


def test_no_mutant_is_its_seed(seed_files, made) -> None:
    sound = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in seed_files}
    assert [name for seed, _, name, digest in made if digest == sound[seed]] == []


def test_every_kind_and_every_seed_occurs_evenly(seed_files, made) -> None:
    assert {kind for _, kind, _, _ in made} == set(kinds())
    of_seed = Counter(seed for seed, _, _, _ in made)
    assert set(of_seed) == {path.name for path in seed_files}
    assert max(of_seed.values()) - min(of_seed.values()) <= 5
    of_kind = Counter(kind for _, kind, _, _ in made if not kind.endswith("bomb"))
    assert min(of_kind.values()) >= 3
    assert max(of_kind.values()) <= 2.5 * COUNT / len(kinds())


def test_bombs_are_rare(made) -> None:
    bombs = Counter(kind for _, kind, _, _ in made if kind.endswith("bomb"))
    assert bombs == {"deflate_bomb": 3, "png_bomb": 3, "gzip_bomb": 3}


def test_mutants_are_made_one_at_a_time(seed_files) -> None:
    endless = mutants(seed_files, 10**12)
    assert [one.number for one in itertools.islice(endless, 3)] == [0, 1, 2]


def test_every_kind_that_fits_a_seed_changes_it(seed_files) -> None:
    for seed in map(read_seed, seed_files):
        for name, kind in KINDS.items():
            if not kind.rare and kind.fits(seed):
                rng = np.random.default_rng(0)
                assert any(kind.damage(seed, rng) != seed.content for _ in range(20)), (seed.name, name)
