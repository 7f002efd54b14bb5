"""Rules about the sources and the workflows: forbidden constructs, file lengths, pinned actions, one list of checks."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from scripts.write_address import ADDRESSES, FILES, fill, read_address

TOP = Path(__file__).resolve().parents[2]
TEMPLATES = TOP / "plugin" / "trainfare" / "pull_request" / "ci"
SOURCES = [
    path
    for root in ("core", "providers", "plugin", "benchmarks", "research/trainfare_research")
    for path in (TOP / root).rglob("*.py")
]
LONGEST, LONGEST_MEDIAN = 500, 200
"""Lines of a file: more than 500 hold several subjects; half of the files are short enough to read at once."""
FORBIDDEN_CALLS = {"eval", "exec"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}

pytestmark = pytest.mark.sources


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def forbidden(source: str) -> list[str]:
    """Return the forbidden constructs of one file: what runs text as code, unpickles, or skips TLS verification."""
    tree = ast.parse(source)
    texts = [f"{name}()" for call in calls(tree) if (name := getattr(call.func, "id", "")) in FORBIDDEN_CALLS]
    for call in calls(tree):
        texts += [
            f"{k.arg}=..."
            for k in call.keywords
            if k.arg == "shell" and getattr(k.value, "value", None) is True
        ]
        texts += [
            f"{k.arg}=..."
            for k in call.keywords
            if k.arg == "verify" and getattr(k.value, "value", None) is False
        ]
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) in {
            "yaml.load",
            "yaml.unsafe_load",
        }:
            texts.append(ast.unparse(call.func))
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        texts += [f"import {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
    return texts


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')",
        "exec('1')",
        "run('x', shell=True)",
        "get(u, verify=False)",
        "yaml.load(f)",
        "import pickle",
        "from dill import load",
    ],
)
def test_planted_construct_is_found(line: str) -> None:
    assert forbidden(line)


def test_sources_have_no_forbidden_construct() -> None:
    """No eval, exec, pickle, shell, unsafe YAML or unverified TLS anywhere."""
    assert {
        str(p.relative_to(TOP)): f for p in SOURCES if (f := forbidden(p.read_text(encoding="utf-8")))
    } == {}


def test_only_packages_list_their_names() -> None:
    """A module's underscores say what is private; a package's `__all__` is its door."""
    lists = [
        path.name
        for path in SOURCES
        if path.name != "__init__.py"
        and re.search(r"^__all__\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert lists == []


def private_imports(source: str) -> list[str]:
    """Return the private names that a file imports from another one; modules of the standard library have some."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and re.match(r"(trainfare|benchmarks)", node.module or "")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]


def test_no_source_imports_a_private_name_of_another() -> None:
    """What several files use is public in its own: it has a name and a docstring that readers can find."""
    assert private_imports("from trainfare.trace import _Recorder") == ["trainfare.trace._Recorder"]
    fields = {
        path.name: names for path in SOURCES if (names := private_imports(path.read_text(encoding="utf-8")))
    }
    assert fields == {}


def test_no_source_file_is_too_long() -> None:
    lengths = {str(p.relative_to(TOP)): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert {name: n for name, n in lengths.items() if n > LONGEST} == {}
    assert sorted(lengths.values())[len(lengths) // 2] < LONGEST_MEDIAN


@pytest.mark.parametrize("name", ["judge", "trace"])
def test_an_action_pins_what_it_uses_and_has_no_expression_in_a_script(name: str) -> None:
    """Actions by full commit; names that others choose reach a script through its environment alone."""
    text = (TOP / ".github" / "actions" / name / "action.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses:\s*(\S+)", text)
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name in used), used
    scripts = [step["run"] for step in yaml.safe_load(text)["runs"]["steps"] if "run" in step]
    assert scripts
    assert not [script for script in scripts if "${{" in script]


def workflows() -> list[Path]:
    return sorted((TOP / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", workflows(), ids=lambda p: p.name)
def test_workflow_grants_nothing_and_pins_every_action(path: Path) -> None:
    """Each workflow starts from no permissions, pins actions of others by full commit and bounds its jobs."""
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    used = re.findall(r"uses:\s*(?![\w.-]+/trainfare/)(\S+)", text)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name in used), used
    assert all("timeout-minutes" in job and "permissions" in job for job in workflow["jobs"].values())


def test_every_address_of_the_actions_is_that_of_the_release() -> None:
    """The files that name it are as `scripts/write_address.py` writes them, and no other file names one."""
    repository, ref = read_address((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    named: dict[str, set[tuple[str, str]]] = {}
    for path in (
        *TOP.glob("*.md"),
        *TOP.glob("docs/**/*.md"),
        *TOP.glob("examples/**/*"),
        *TEMPLATES.iterdir(),
        *workflows(),
    ):
        if path.suffix not in (".md", ".yml") or path.name == "CHANGELOG.md":
            continue
        text = path.read_text(encoding="utf-8")
        values = [match.groupdict() for pattern in ADDRESSES for match in pattern.finditer(text)]
        if values:
            named[path.relative_to(TOP).as_posix()] = {(v["repository"], v.get("ref", ref)) for v in values}
    assert set(named) <= set(FILES)
    assert {
        "docs/ci.md",
        "plugin/trainfare/pull_request/ci/gitlab-ci.yml",
        ".github/workflows/training-cost.yml",
    } <= set(named)
    assert set().union(*named.values()) == {(repository, ref)}
    text = f"uses: {repository}/.github/actions/trace@{ref}\n--repo {repository}\n"
    assert (
        fill(text, "a/trainfare", "v1") == "uses: a/trainfare/.github/actions/trace@v1\n--repo a/trainfare\n"
    )


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (TOP / ".ci" / "run").read_text(encoding="utf-8")
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    assert "make test" in script
    assert "make check" in script
    assert "make demo" in readme
    assert "make test" in readme


def test_each_error_class_is_raised_by_some_test() -> None:
    """Each class of errors.py, but the bases, stands in a `pytest.raises` of some test."""
    errors = ast.parse((TOP / "core/trainfare_core/errors.py").read_text(encoding="utf-8"))
    names = {node.name for node in errors.body if isinstance(node, ast.ClassDef)} - {
        "TrainfareError",
        "CannotTellError",
    }
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (TOP / "tests").rglob("test_*.py"))
    assert {name for name in names if not re.search(rf"raises\(\(?[^)]*\b{name}\b", tests)} == set()


def test_pre_commit_runs_the_targets_of_make_check() -> None:
    """The hooks of .pre-commit-config.yaml are the targets that `make check` runs, each once."""
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    config = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert sorted(hook["id"] for hook in hooks) == sorted(set(re.findall(r"\bcheck-[a-z]+", recipe[1])))
    for hook in hooks:
        assert hook["entry"] == f"make --no-print-directory {hook['id']}"
        assert hook["language"] == "system"
        assert hook["always_run"] is True
        assert hook["pass_filenames"] is False


@pytest.mark.parametrize(
    ("changed", "halves"),
    [
        ("", []),
        ("docs/prediction.md", []),
        ("core/trainfare_core/errors.py", ["core", "providers plugin tests/typing"]),
        ("plugin/trainfare", ["providers plugin tests/typing"]),  # a file of it was taken away
        ("pyproject.toml", ["core", "providers plugin tests/typing"]),
    ],
)
def test_pyright_runs_again_for_what_changed(tmp_path: Path, changed: str, halves: list[str]) -> None:
    """A half of the sources that pyright passed as it is, is left out: pyright keeps no cache of its own."""
    later = time.time() + 60
    for name in (".installed", ".pyright-core", ".pyright-others"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (later, later))
    texts = [
        "make",
        "--dry-run",
        f"VENV={tmp_path}",
        *([f"--what-if={changed}"] if changed else []),
        "check-pyright",
    ]
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(texts, cwd=TOP, env=outside, capture_output=True, text=True, check=True)
    ran = re.findall(r"pyright --warnings ([\w/ ]+?) &&", done.stdout)
    assert ran == halves


def test_every_phony_target_has_a_rule() -> None:
    text = (TOP / "Makefile").read_text(encoding="utf-8")
    announced = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert announced
    missing = [name for name in announced[1].split() if not re.search(rf"^{name}:", text, re.MULTILINE)]
    assert not missing


SHIPPED = [path for path in SOURCES if path.relative_to(TOP).parts[0] not in {"benchmarks", "research"}]
PERCENTAGE = re.compile(r":[^{}:]*\.[0-9]%\}")


def test_percentages_are_written_by_one_function() -> None:
    """Python's own has no space before the sign, and shows shares near 0 and 1 as all or nothing."""
    assert PERCENTAGE.search('f"{share:>7.1%}"')
    match = [
        str(path.relative_to(TOP)) for path in SHIPPED if PERCENTAGE.search(path.read_text(encoding="utf-8"))
    ]
    assert not match, f"use trainfare_core.number_format.percent: {', '.join(match)}"
