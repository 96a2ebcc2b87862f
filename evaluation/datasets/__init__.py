"""Public data sets: their official files, read by the paper's rules, become a manifest that the ingest takes.

The rules are those of Denner et al. (arXiv 2403.06567) as its published code applies them
(github.com/MIC-DKFZ/foundation-models-for-cbmir, scripts/prepare_datasets, commit 4c88d8b). The authors call these
scripts "not deterministic" and offer their own lists of files (zenodo.org/records/11196400): a figure that is to be
held against the paper's to the last digit takes those.
"""
