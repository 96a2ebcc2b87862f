"""Train and val, drawn by patient as the paper's code draws them."""

import math
from collections.abc import Iterable

import numpy as np

_TRAIN = 0.9
_SEED = 42


def draw_train_and_val(patients: Iterable[str]) -> dict[str, str]:
    """`train` or `val` for each patient, 90 to 10.

    Gives what the paper's code gets from scikit-learn,
    `train_test_split(patients, train_size=0.9, random_state=42)`: the patients in the order of the table are permuted
    by NumPy's legacy generator, whose numbers are frozen (NEP 19); the first of the permutation are val. Compared with
    scikit-learn 1.9.1 on the tables of NIH and CheXpert: the same images, all of them.

    Args:
        patients: in the order in which the table first names them; later mentions do not count.
    """
    names = tuple(dict.fromkeys(patients))
    # The paper's seed and generator: a newer generator would draw other patients.
    order = np.random.RandomState(_SEED).permutation(len(names))
    in_val = len(names) - math.floor(_TRAIN * len(names))
    val = {names[place] for place in order[:in_val]}
    return {name: "val" if name in val else "train" for name in names}
