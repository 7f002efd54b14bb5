"""What is built and depended on: the bill of materials, the versions of Python, the workflows of audit and release."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from trainfare_core.installation import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]

pytestmark = pytest.mark.sources


def workflow(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((TOP / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return read


def pythons() -> list[str]:
    """Return the versions of the classifiers."""
    match = (re.search(r":: (3\.\d+)$", line) for line in PROJECT["project"]["classifiers"])
    return [match[1] for match in match if match]


def test_every_version_that_is_claimed_is_tested() -> None:
    """The matrix of `make test` is the classifiers; the wheel is tested at both ends, and so, weekly, are
    the lowest dependencies, of every extra.
    """
    jobs = workflow("ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == pythons()
    assert jobs["wheel"]["strategy"]["matrix"]["python"] == [pythons()[0], pythons()[-1]]
    lowest = workflow("weekly.yml")["jobs"]["lowest"]["strategy"]["matrix"]
    assert lowest["python"] == [pythons()[0], pythons()[-1]]
    script = (TOP / "scripts" / "test_lowest.sh").read_text(encoding="utf-8")
    families = re.findall(r"^ +(\w+)\) test_family (\w+) \"([\w ]+)\"", script, re.MULTILINE)
    assert [name for name, again, _ in families if name == again] == lowest["family"]
    tested = {extra for *_, extras in families for extra in extras.split()}
    assert tested == set(EXTRAS) - {
        "all",
        "demo",
    }  # the packages of `demo` are those of `lightning`, and scikit-learn
    assert [
        version for version in pythons() if version in SpecifierSet(PROJECT["project"]["requires-python"])
    ] == pythons()


def test_every_dependency_has_a_lower_bound_and_no_upper_one() -> None:
    """The lowest versions are those of `make test-lowest`; newer ones are not kept out, but for those of one package."""
    groups = [*PROJECT["dependency-groups"].values(), *EXTRAS.values(), PROJECT["project"]["dependencies"]]
    for line in (line for group in groups for line in group if isinstance(line, str)):
        needed = Requirement(line)
        operators = {part.operator for part in needed.specifier}
        # mcp's major versions change what a server is made of: 2.0 has none of the names of 1.x.
        bounds = {"trainfare": set[str](), "mcp": {">=", "<"}}
        assert operators == bounds.get(needed.name, {">="}), line


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment that has every runtime dependency by name."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    lines = [line for name in EXTRAS if name != "all" for line in EXTRAS[name]]
    for needed in map(Requirement, [*PROJECT["project"]["dependencies"], *lines]):
        folder = packages / f"{needed.name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {needed.name}\nVersion: 1.0\n")
    return tmp_path / "env"


def bill(environment: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOP / "scripts" / "sbom.py"), str(environment), "-o", str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_bill_of_materials_has_every_runtime_dependency(environment: Path, tmp_path: Path) -> None:
    """It satisfies the schema of CycloneDX, holds no path of the machine, and one package less is an error."""
    done = bill(environment, tmp_path / "bill.json")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "bill.json").read_text(encoding="utf-8")
    found = json.loads(text)
    assert (found["bomFormat"], found["metadata"]["component"]["name"]) == ("CycloneDX", "trainfare")
    assert {"numpy", "polars", "torch", "boto3", "matplotlib"} <= {one["name"] for one in found["components"]}
    assert str(tmp_path) not in text
    (polars,) = environment.glob("lib/python*/site-packages/polars-*/METADATA")
    polars.unlink()
    polars.parent.rmdir()
    done = bill(environment, tmp_path / "less.json")
    assert (done.returncode, "without polars" in done.stderr) == (1, True), done.stderr


def test_a_release_is_built_once_and_has_its_provenance() -> None:
    """The wheel that is attested is the one that was built; only the job that attests may write, and it runs no code of ours."""
    jobs = workflow("release.yml")["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert jobs["provenance"]["permissions"] == {"id-token": "write", "attestations": "write"}
    steps = jobs["provenance"]["steps"]
    assert [step["uses"].partition("@")[0] for step in steps] == [
        "actions/download-artifact",
        "actions/attest-build-provenance",
    ]
    assert steps[1]["with"]["subject-path"] == "dist/*"
    built = "\n".join(step.get("run", "") for step in jobs["build"]["steps"])
    assert "make dist" in built


def test_a_release_has_the_notes_of_the_changelog(tmp_path: Path) -> None:
    """The step of the workflow, run on the changelog of this version; packages go to the index without a password."""
    jobs = workflow("release.yml")["jobs"]
    (step,) = (step for step in jobs["build"]["steps"] if "notes.md" in step.get("run", ""))
    shutil.copy(TOP / "CHANGELOG.md", tmp_path)
    environment = {**os.environ, "GITHUB_REF_NAME": f"v{__version__}"}
    subprocess.run(["sh", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, check=True)
    notes = (tmp_path / "notes.md").read_text(encoding="utf-8")
    assert "### Added" in notes
    assert "## [" not in notes
    unknown = subprocess.run(
        ["sh", "-e", "-c", step["run"]],
        cwd=tmp_path,
        env={**environment, "GITHUB_REF_NAME": "v9.9.9"},
        check=False,
    )
    assert unknown.returncode != 0
    assert "--notes-file notes/notes.md" in jobs["release"]["steps"][-1]["run"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["steps"][-1]["uses"].startswith("pypa/gh-action-pypi-publish@")


def test_dependencies_are_audited_every_week_and_when_they_change() -> None:
    triggers = workflow("audit.yml")[True]  # YAML reads `on` as true
    assert triggers["schedule"]
    assert "pyproject.toml" in triggers["pull_request"]["paths"]
    runs = [step.get("run") for step in workflow("audit.yml")["jobs"]["audit"]["steps"]]
    assert "make audit" in runs


def test_workflows_make_what_there_is() -> None:
    """Every `make` of a workflow is a target of the Makefile, and what takes too long for each change runs weekly."""
    texts = [path.read_text(encoding="utf-8") for path in (TOP / ".github" / "workflows").glob("*.yml")]
    made = {name for text in texts for name in re.findall(r"\bmake ([\w-]+)", text)}
    targets = set(re.findall(r"^([\w-]+):", (TOP / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert made <= targets
    assert {
        "test",
        "test-days",
        "check",
        "coverage",
        "mutants",
        "fuzz",
        "test-wheel",
        "audit",
        "dist",
    } <= made


def test_security_page_names_what_it_should() -> None:
    """How to report, which versions are supported, and what the process of the user's code does not guard against."""
    text = (TOP / "SECURITY.md").read_text(encoding="utf-8")
    version = re.search(
        r'"(\d+)\.(\d+)', (TOP / "core/trainfare_core/installation.py").read_text(encoding="utf-8")
    )
    assert version
    assert f"{version[1]}.{version[2]}" in text
    for heading in ("Reporting", "Supported versions", "Threat model", "What leaves the machine"):
        assert f"\n## {heading}" in text
