"""The house: what README.md says is so, and the import rules bite."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from radsearch.settings import VARIABLES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_documented() -> None:
    assert [name for name in VARIABLES if f"`{name}`" not in README] == []


def test_no_file_of_the_page_bears_a_name_that_it_would_hide_from_others() -> None:
    """`streamlit run` puts ui/ first on the path."""
    files = {path.stem for path in (ROOT / "ui").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()}
    installed = set(packages_distributions())
    assert files & (rooms | installed | sys.stdlib_module_names) <= {"__init__", "__main__"}


def test_no_finding_of_security_is_silenced_without_a_reason() -> None:
    """Of ruff's rules S and of bandit's, which are told in a comment of either's own."""
    silent = re.compile(r"# noqa: [A-Z0-9, ]*\bS\d{3}(?![^#]* -- )|# nosec(?! B\d)|^[^#]*# nosec[B\d ]*$")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(ROOT.glob("[!.]*/**/*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if path != Path(__file__) and silent.search(line)
    ]
    assert found == []


def test_what_of_the_page_runs_alone_asks_first_who_is_there() -> None:
    """A fragment and a dialog run without the top of the page, where the door is."""
    alone, unasked = 0, set()
    for file in (ROOT / "ui").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        named = re.findall(r"@st\.(?:fragment|dialog)\b.*\ndef (\w+)", text) + re.findall(
            r"(?<!@)st\.fragment\((\w+)", text
        )
        assert len(named) == len(re.findall(r"st\.(?:fragment|dialog)\b", text)), f"{file}: another way to write it"
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef) and function.name in named:
                alone += 1
                body = function.body[1:] if ast.get_docstring(function) else function.body
                unasked |= set() if ast.unparse(body[0]) == "stay()" else {function.name}
    assert alone >= 4
    assert unasked == {"_try_again"}  # shows nothing, and has all of the page run


def test_the_page_has_one_way_to_the_index() -> None:
    """`Surroundings.index`, which gives each visitor what he may see; a lease gives all of it."""
    asked = [
        file.relative_to(ROOT).as_posix()
        for file in sorted((ROOT / "ui").rglob("*.py"))
        if re.search(r"lease\.index\(|\bopen_index\(", file.read_text(encoding="utf-8"))
    ]
    assert asked == ["ui/lease.py", "ui/searching.py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("ingest",), ("radsearch", "search"), ("radsearch", "models", "fetch"), ("evaluation", "run")]
)
def test_every_option_in_the_readme_is_known_to_its_command(command: tuple[str, ...]) -> None:
    lines = [line for line in README.splitlines() if f"python -m {' '.join(command)}" in line]
    told = set(re.findall(r"--[a-z-]+", " ".join(lines)))
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert told <= set(re.findall(r"--[a-z-]+", done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "violation"),
    [
        ("radsearch/rendering/greyscale.py", "import ingest.sources"),
        ("radsearch/search/ranking.py", "import pydicom"),
        ("ingest/sources.py", "import ui.gallery"),
        ("ui/gallery.py", "import qdrant_client"),
        ("evaluation/metrics.py", "import ingest.sources"),
    ],
)
def test_planted_violation_of_the_import_rules_is_found(tmp_path: Path, module: str, violation: str) -> None:
    for room in ("radsearch", "ingest", "evaluation", "flows", "ui"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / module
    planted.write_text(planted.read_text(encoding="utf-8") + f"\n{violation}\n", encoding="utf-8")
    checker = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([checker, "--no-cache"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
