"""A deterministic stream of damaged medical image files: what a reader must survive, each file counted.

`mutants(seeds(folder), 5000)` damages real small files in every way that archives and enemies know. The same arguments
always give the same bytes, and a single one can be made again from its number alone (`mutant`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import mutant_anatomy as anatomy
import mutant_encoding as encoding
import mutant_pictures as pictures
import mutant_structure as structure
import mutant_values as values
import numpy as np
from mutant_anatomy import Seed, patched, pick, read_seed
from mutant_seeds import seeds

__all__ = ["Mutant", "kinds", "mutant", "mutants", "seeds"]

RARE_EVERY = 500  # a bomb costs its reader seconds: each kind of them comes once in so many
ATTEMPTS = 100


@dataclass(frozen=True)
class Mutant:
    """A damaged file; `number` is its place in the stream."""

    seed: str
    kind: str
    number: int
    content: bytes

    @property
    def name(self) -> str:
        """A file name that tells number, kind and seed, with the seed's ending."""
        return f"{self.number:06d}-{self.kind}-{self.seed}"


def mutants(seeds: Sequence[Path], count: int, random_seed: int = 0) -> Iterator[Mutant]:
    """Make `count` mutants one at a time: every seed as often as the others, by the kinds that fit it in turn.

    A mutant depends on `seeds` and their order, on `random_seed` and on its number, not on `count`.
    """
    for number in range(count):
        yield mutant(seeds, number, random_seed)


def mutant(seeds: Sequence[Path], number: int, random_seed: int = 0) -> Mutant:
    """Make one mutant of the stream again.

    Raises:
        ValueError: the damage left the seed as it was however often it was tried: its kind does not fit this seed.
    """
    path, kind = _seed_and_kind(tuple(seeds), number)
    seed, rng = _read(path), np.random.default_rng((random_seed, number))
    for _ in range(ATTEMPTS):
        content = KINDS[kind].damage(seed, rng)
        if content != seed.content:
            return Mutant(seed.name, kind, number, content)
    raise ValueError(f"{kind} never changes {seed.name}")


def kinds() -> list[str]:
    """Name every kind of damage."""
    return list(KINDS)


def _seed_and_kind(paths: tuple[Path, ...], number: int) -> tuple[Path, str]:
    round_of_rare, place = divmod(number, RARE_EVERY)
    rare = [kind for kind in KINDS if KINDS[kind].rare and _fitting(paths, kind)]
    if place < len(rare):
        fitting = _fitting(paths, rare[place])
        return fitting[round_of_rare % len(fitting)], rare[place]
    turn, index = divmod(number, len(paths))
    common = _common_kinds(paths, paths[index])
    return paths[index], common[(turn + index) % len(common)]  # with the index, so that all kinds come early


@lru_cache(maxsize=256)
def _common_kinds(paths: tuple[Path, ...], path: Path) -> list[str]:
    """The kinds that fit a seed, those that fit few others up to four times, so that none starves."""
    fitting = [name for name, kind in KINDS.items() if not kind.rare and kind.fits(_read(path))]
    often = {name: min(4, max(1, len(paths) // (3 * len(_fitting(paths, name))))) for name in fitting}
    return [name for turn in range(4) for name in fitting if turn < often[name]]


@lru_cache(maxsize=256)
def _fitting(paths: tuple[Path, ...], kind: str) -> list[Path]:
    return [path for path in paths if KINDS[kind].fits(_read(path))]


@lru_cache(maxsize=256)
def _read(path: Path) -> Seed:
    return read_seed(path)


def _on_bytes(
    damage: Callable[[bytes, int, np.random.Generator], bytes],
) -> Callable[[Seed, np.random.Generator], bytes]:
    """Let damage that knows no format work on a file or, half the time, on what is packed in it."""

    def run(seed: Seed, rng: np.random.Generator) -> bytes:
        if seed.inside is not seed.content and rng.integers(2):
            return seed.pack(damage(seed.inside, seed.inside_pixels_at, rng))
        return damage(seed.content, seed.pixels_at, rng)

    return run


def bits_flipped(content: bytes, _pixels_at: int, rng: np.random.Generator) -> bytes:
    flipped = bytearray(content)
    for _ in range(int(rng.integers(1, 65))):
        flipped[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


def burst_in_header(content: bytes, pixels_at: int, rng: np.random.Generator) -> bytes:
    return _burst(content, int(rng.integers(min(128, pixels_at // 2), pixels_at)), rng)


def burst_in_pixels(content: bytes, pixels_at: int, rng: np.random.Generator) -> bytes:
    return _burst(content, int(rng.integers(pixels_at, len(content))), rng)


def _burst(content: bytes, at: int, rng: np.random.Generator) -> bytes:
    length = min(int(rng.integers(1, 65)), len(content) - at)
    return patched(content, at, pick(rng, (rng.bytes(length), b"\xff" * length, bytes(length))))


def cut_anywhere(content: bytes, _pixels_at: int, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def cut_in_pixels(content: bytes, pixels_at: int, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(pixels_at, len(content)))]


def slice_removed(content: bytes, _pixels_at: int, rng: np.random.Generator) -> bytes:
    at, length = _slice(content, rng)
    return content[:at] + content[at + length :]


def slice_repeated(content: bytes, _pixels_at: int, rng: np.random.Generator) -> bytes:
    at, length = _slice(content, rng)
    return content[: at + length] + content[at:]


def _slice(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(len(content))), pick(rng, (1, 2, 4, 7, 8, 16, 64, 1000))


class Kind(NamedTuple):
    damage: Callable[[Seed, np.random.Generator], bytes]
    fits: Callable[[Seed], bool]
    rare: bool = False


def _any_seed(_seed: Seed) -> bool:
    return True


KINDS = {
    "bits_flipped": Kind(_on_bytes(bits_flipped), _any_seed),
    "burst_in_header": Kind(_on_bytes(burst_in_header), _any_seed),
    "burst_in_pixels": Kind(_on_bytes(burst_in_pixels), _any_seed),
    "cut_anywhere": Kind(_on_bytes(cut_anywhere), _any_seed),
    "cut_in_pixels": Kind(_on_bytes(cut_in_pixels), _any_seed),
    "slice_removed": Kind(_on_bytes(slice_removed), _any_seed),
    "slice_repeated": Kind(_on_bytes(slice_repeated), _any_seed),
    "contradictory_description": Kind(values.contradictory_description, anatomy.is_dicom),
    "contradictory_scale": Kind(values.contradictory_scale, anatomy.is_dicom),
    "huge_declared": Kind(values.huge_declared, anatomy.is_dicom),
    "wrong_length": Kind(structure.wrong_length, anatomy.is_dicom),
    "wrong_vr": Kind(structure.wrong_vr, anatomy.is_explicit),
    "elements_missing": Kind(structure.elements_missing, anatomy.is_dicom),
    "elements_out_of_order": Kind(structure.elements_out_of_order, anatomy.is_dicom),
    "elements_repeated": Kind(structure.elements_repeated, anatomy.is_dicom),
    "charset_damaged": Kind(values.charset_damaged, anatomy.is_dicom),
    "deeply_nested": Kind(structure.deeply_nested, anatomy.is_dicom),
    "self_containing": Kind(structure.self_containing, anatomy.is_dicom),
    "lut_nonsense": Kind(values.lut_nonsense, anatomy.is_dicom),
    "palette_nonsense": Kind(values.palette_nonsense, anatomy.is_dicom),
    "ultrasound_regions_nonsense": Kind(values.ultrasound_regions_nonsense, anatomy.is_dicom),
    "frame_pointer_nonsense": Kind(values.frame_pointer_nonsense, anatomy.is_dicom),
    "functional_groups_nonsense": Kind(values.functional_groups_nonsense, anatomy.has_functional_groups),
    "offset_table_nonsense": Kind(encoding.offset_table_nonsense, anatomy.is_encapsulated),
    "fragments_nonsense": Kind(encoding.fragments_nonsense, anatomy.is_encapsulated),
    "rle_header_nonsense": Kind(encoding.rle_header_nonsense, anatomy.is_rle),
    "meta_damaged": Kind(encoding.meta_damaged, anatomy.has_meta),
    "syntax_swapped": Kind(encoding.syntax_swapped, anatomy.has_meta),
    "deflate_damaged": Kind(encoding.deflate_damaged, anatomy.may_be_deflated),
    "deflate_bomb": Kind(encoding.deflate_bomb, anatomy.may_be_deflated, rare=True),
    "codestream_dimensions": Kind(pictures.codestream_dimensions, pictures.has_codestream),
    "codestream_huge": Kind(pictures.codestream_huge, pictures.has_codestream),
    "codestream_segments": Kind(pictures.codestream_segments, pictures.has_codestream),
    "png_chunks_out_of_order": Kind(pictures.png_chunks_out_of_order, anatomy.is_png),
    "png_crc_broken": Kind(pictures.png_crc_broken, anatomy.is_png),
    "png_stream_cut": Kind(pictures.png_stream_cut, anatomy.is_png),
    "png_header": Kind(pictures.png_header, anatomy.is_png),
    "png_huge": Kind(pictures.png_huge, anatomy.is_png),
    "png_bomb": Kind(pictures.png_bomb, anatomy.is_png, rare=True),
    "nifti_header": Kind(pictures.nifti_header, anatomy.is_nifti),
    "nifti_huge": Kind(pictures.nifti_huge, anatomy.is_nifti),
    "gzip_damaged": Kind(pictures.gzip_damaged, anatomy.is_gzip),
    "gzip_bomb": Kind(pictures.gzip_bomb, anatomy.is_gzip, rare=True),
}
