"""A folder with one checkpoint and its description: where there are several, libraries choose by an order of their own.

So what is loaded is what the fingerprint covers, and nothing else that lies in the folder.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from radsearch.errors import ModelUnavailableError
from radsearch.models.spec import ModelSpec
from radsearch.models.weights import Weights


@contextmanager
def alone(spec: ModelSpec, weights: Weights, config: str, usual: Sequence[str]) -> Iterator[Path]:
    """Such a folder, made of links, until the end of the block.

    Args:
        spec: the row, for its name.
        weights: where the files lie.
        config: name of the description.
        usual: names that the library knows, best first: safetensors at the beginning, a pickle at the end.

    Raises:
        ModelUnavailableError: there are several checkpoints, none of them of a usual name.
    """
    checkpoint = _checkpoint(spec, weights, usual)
    with TemporaryDirectory() as folder:
        (Path(folder) / config).symlink_to((weights.place / config).absolute())
        name = usual[0] if checkpoint.suffix == ".safetensors" else usual[-1]
        (Path(folder) / name).symlink_to(checkpoint.absolute())
        yield Path(folder)


def _checkpoint(spec: ModelSpec, weights: Weights, usual: Sequence[str]) -> Path:
    if len(weights.files) == 1:
        return weights.files[0]
    names = {file.name: file for file in weights.files}
    for name in usual:
        if name in names:
            return names[name]
    raise ModelUnavailableError(
        f"{spec.name} has several weights ({', '.join(names)}): its row has to name one in files"
    )
