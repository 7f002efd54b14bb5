"""
The recipes of CONTRIBUTING.md for an accelerator, a cloud and a fine-tuning method are complete.

Each file that a recipe names has what is here already, and no other file of the product names it.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainfare_core.clouds import CLOUDS
from trainfare_core.methods.methods import METHODS, Method

TOP = Path(__file__).resolve().parents[2]
PRODUCT = ("core", "providers", "plugin")
DATA = ("core/trainfare_core/data", "providers/trainfare_providers/data")

OTHER_MEANINGS = {
    "core/trainfare_core/hardware/accelerator_rows.py": "AWS as the maker of Trainium",
    "core/trainfare_core/hardware/accelerators.py": "AWS as the maker of Trainium",
    "providers/trainfare_providers/shared_book.py": "the scheme of an address in Azure's storage",
    "providers/trainfare_providers/buckets.py": "object stores, of which a cloud need have none that is read",
    "plugin/trainfare/cli/comment.py": "Azure DevOps",
    "plugin/trainfare/pull_request/azure_devops.py": "Azure DevOps",
    "plugin/trainfare/pull_request/ci_job.py": "Azure DevOps",
}
"""Files in which a cloud's name means something else, and what."""

YARDSTICKS = {
    "core/trainfare_core/methods/amounts.py": "epochs that papers of instruction tuning give for two methods",
    "core/trainfare_core/methods/lines.py": "full fine-tuning as what others are compared with",
    "core/trainfare_core/methods/question.py": "full fine-tuning as what others are compared with",
    "plugin/trainfare/estimate/rollout_request.py": "what a run that generates trains, as an option of `estimate`",
    "plugin/trainfare/report/strategy/rows.py": "full fine-tuning as what others are compared with",
}
"""Files that name a method as what others are measured by, and how: a new one has no line there."""

FITTED = {f"core/trainfare_core/data/{name}.csv" for name in ("measured_groups", "vendor_errors")}
"""What was measured, by maker and accelerator: written by commands, never by hand."""

RENTED_EVERYWHERE = "H200"
"""An accelerator that all clouds rent."""

pytestmark = pytest.mark.sources


def read_recipe(heading: str) -> tuple[list[str], list[str]]:
    """Return the files of a recipe's numbered items, and all files that it names."""
    text = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, heading
    items = re.findall(r"^\d+\. .*(?:\n   .*)*", section, flags=re.MULTILINE)
    return list(find_paths("\n".join(items))), list(find_paths(section))


def find_paths(text: str) -> Iterator[str]:
    for name in re.findall(r"`([^`\s]+)`", text):
        if re.fullmatch(r"pyproject\.toml|[\w<>-]+(/[\w<>.-]+)+\.(py|csv|md)", name):
            yield name


def says(path: str, *names: str) -> bool:
    text = (TOP / path).read_text(encoding="utf-8")
    return any(re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", text) for name in names)


def files_with_constant(value: str) -> set[str]:
    """Return the product's files in whose code a text is that value; docstrings are not code."""
    files = set()
    for root in PRODUCT:
        for path in sorted((TOP / root).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if f'"{value}"' not in source:
                continue
            tree = ast.parse(source)
            docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and node.value == value and id(node) not in docs:
                    files.add(str(path.relative_to(TOP)))
    return files


def tables_with_cell(name: str) -> set[str]:
    """Return the product's tables with a name in a cell, but for those of sources."""
    tables = set()
    for folder in DATA:
        for path in sorted((TOP / folder).glob("*.csv")):
            if path.stem.endswith("sources"):
                continue
            with path.open(encoding="utf-8", newline="") as stream:
                rows = csv.DictReader(stream)
                cells = (text for row in rows for key, text in row.items() if "source" not in key)
                if any(re.search(rf"(?<![A-Za-z]){name}(?![A-Za-z0-9])", text or "") for text in cells):
                    tables.add(str(path.relative_to(TOP)))
    return tables


@pytest.mark.parametrize("name", CLOUDS)
def test_each_cloud_has_what_the_recipe_lists(name: str) -> None:
    files, _ = read_recipe("Add a cloud to this repository")
    assert len(files) > 10
    for file in files:
        path = file.replace("<cloud>", name)
        assert (TOP / path).is_file(), path
        if path == file:
            assert says(path, name, CLOUDS[name].label) or path.startswith("research/"), path


@pytest.mark.parametrize("name", CLOUDS)
def test_the_recipe_of_a_cloud_is_complete(name: str) -> None:
    """No code names a cloud but its own package and the files of the recipe; nor does a table."""
    _, files = read_recipe("Add a cloud to this repository")
    listed = {file.replace("<cloud>", name) for file in files}
    package = f"providers/trainfare_providers/{name}/"
    code = {file for file in files_with_constant(name) if not file.startswith(package)}
    assert code - listed - OTHER_MEANINGS.keys() == set()
    makers = {"core/trainfare_core/data/accelerators.csv", *FITTED}
    tables = {table for table in tables_with_cell(name) if not Path(table).name.startswith(f"{name}_")}
    assert tables - makers - listed == set()


def test_a_meaning_that_is_gone_is_not_excused() -> None:
    named = set().union(*(files_with_constant(name) for name in CLOUDS))
    assert set(OTHER_MEANINGS) - named == set()


def test_an_accelerator_has_what_the_recipe_lists() -> None:
    """One that all clouds rent is in each table of the recipe but those of TPUs and of no price, and in no other of ours."""
    _, files = read_recipe("Add an accelerator in one row")
    others = re.compile("tpu|unpriced")
    listed = {file for file in files if file.startswith(DATA) and not others.search(file)}
    quotas_and_spot = {"core/trainfare_core/data/run_cost_facts.csv"}  # of a cloud, see its recipe
    assert tables_with_cell(RENTED_EVERYWHERE) - quotas_and_spot - FITTED == listed
    assert says("tests/core/hardware/test_accelerators.py", RENTED_EVERYWHERE)
    assert all((TOP / file).is_file() for file in files)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_what_the_recipe_lists(name: Method) -> None:
    files, named = read_recipe("Add a fine-tuning method")
    assert len(files) == 4
    for file in files:
        recognised = file.endswith("curve_recorder.py")
        assert says(file, name) or (recognised and METHODS[name].trains == "all weights"), file
    assert all((TOP / file).is_file() for file in named)


@pytest.mark.parametrize("name", METHODS)
def test_the_recipe_of_a_method_is_complete(name: Method) -> None:
    _, listed = read_recipe("Add a fine-tuning method")
    assert files_with_constant(name) - set(listed) - YARDSTICKS.keys() == set()
