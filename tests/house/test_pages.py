"""The pages of docs/: an index of all of them, commands that exist as they are written, blocks that run, and their words."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import time_machine
import yaml

from builders.cli import run_main, run_python
from scripts.write_address import ADDRESSES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
GENERATED = {"accuracy.md", "published-runs.md", "reliability.md", "scenarios.md"}
"""Written by a command, and looked up rather than read."""
PROJECT = {"decisions.md", "packages.md", "price-sources.md"}
"""For people who change trainfare, such as who adds a cloud."""
MOST_WORDS = 25_000
MOST_README_LINES = 120
RUN_WHOLE = ("start/install.md", "start/tutorial.md", "fare-meter.md", "reference/python.md")
"""Pages whose every block is run by a test of this file, or marked with why it is not."""
BLOCK = re.compile(
    r"^(?P<mark><!-- [^\n]+ -->\n\n?)?(?P<indent> *)```(?P<language>[\w{}-]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
SHELL = {"", "console", "sh"}

pytestmark = pytest.mark.sources


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code of a page: its language, its text, and the comment above it."""

    language: str
    text: str
    mark: str


def read_page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def read_blocks(text: str) -> list[Block]:
    return [
        Block(match["language"], re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE), (match["mark"] or "").strip())
        for match in BLOCK.finditer(text)
    ]  # fmt: skip


def find_commands(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of each `trainfare ...` of a block, without comments and what the shell takes for itself."""
    if block.language in SHELL:
        for line in block.text.replace("\\\n", " ").splitlines():
            match = re.match(r"(?:\$ )?trainfare (.*)", line)
            if match:
                words = shlex.split(match[1], comments=True)
                ends = [index for index, word in enumerate(words) if re.match(r"\d?>|[|<;&]|.*;$", word)]
                yield [
                    word.rstrip(";")
                    for word in words[: ends[0] + words[ends[0]].endswith(";") if ends else None]
                ]


def parse_command(arguments: list[str]) -> None:
    """Parse a command line as trainfare does, and run nothing."""
    from typer.main import get_command

    from trainfare.cli import app_of

    command: Any = get_command(app_of())
    context = command.make_context("trainfare", list(arguments))
    rest = [*context._protected_args, *context.args]
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        rest = [*getattr(context, "_protected_args", []), *context.args]


def test_the_index_has_every_page_once_in_four_parts() -> None:
    """A new page is added to docs/index.md, from which the site takes its contents."""
    parts = re.split(r"^## (.+)$", read_page("index.md"), flags=re.MULTILINE)
    assert parts[1::2] == ["Start", "How to", "Understand", "Reference"]
    listed = [
        page for text in parts[2::2] for page in re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", text, re.MULTILINE)
    ]
    assert sorted([*listed, "index.md"]) == PAGES


def test_the_readme_can_be_read_at_once() -> None:
    """It has the two commands, the installation as `scripts/write_address.py` writes it, a picture and every command's name."""
    from trainfare.cli import COMMANDS

    page = read_page("../README.md")
    assert len(page.splitlines()) <= MOST_README_LINES
    assert re.search(r"!\[[^\]]+\]\(docs/[\w-]+\.png\)", page)
    assert any(pattern.search(page) for pattern in ADDRESSES)
    assert [
        name
        for name in COMMANDS
        if not re.search(rf"`trainfare {name}|^trainfare {name}|`{name} |make {name}", page, re.MULTILINE)
    ] == []


def test_users_have_a_bounded_amount_to_read() -> None:
    """Words of prose: without code, tables, generated pages and those of the project."""
    words = 0
    for name in set(PAGES) - GENERATED - PROJECT:
        prose = re.sub(r"<!--.*?-->", "", BLOCK.sub("", read_page(name)), flags=re.DOTALL)
        words += sum(len(line.split()) for line in prose.splitlines() if not line.lstrip().startswith("|"))
    assert words <= MOST_WORDS, words


@pytest.mark.parametrize("name", [*PAGES, "../README.md", "../CONTRIBUTING.md", "../SECURITY.md"])
def test_every_block_is_what_it_says(name: str) -> None:
    """Commands have the options that are named, Python compiles, and files of settings are read."""
    for block in read_blocks(read_page(name)):
        for arguments in find_commands(block):
            if arguments != ["--version"]:
                parse_command(arguments)
        if block.language == "python":
            compile(block.text, name, "exec")
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)


def test_a_command_that_is_wrong_is_found() -> None:
    (arguments,) = find_commands(Block("sh", "trainfare check a.json --max-euro 5 > out; x\n", ""))
    assert arguments == ["check", "a.json", "--max-euro", "5"]
    with pytest.raises(Exception, match="--max-euro"):
        parse_command(arguments)


def test_blocks_that_are_not_run_say_why() -> None:
    for name in RUN_WHOLE:
        for block in read_blocks(read_page(name)):
            assert not block.mark or re.match(r"<!-- (not run: \S.+|output: .+) -->", block.mark), (
                name,
                block.mark,
            )


def run_shell(block: Block, folder: Path) -> None:
    """Run the commands of a block: trainfare's in this process, Python in one of its own."""
    ran = len(list(find_commands(block)))
    for arguments in find_commands(block):
        code = run_main(*arguments)
        assert code == 0, arguments
    for line in block.text.splitlines():
        if line.startswith("python "):
            run_python("-W", "ignore", *shlex.split(line)[1:], cwd=folder, check=True)
            ran += 1
    assert ran == len([line for line in block.text.splitlines() if line.strip()]), block.text


@pytest.mark.usefixtures("warm_start")
def test_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Every block in its order, in an empty folder; what it shows was printed for the trace that it makes.

    On the day to which its ages are counted: prices as old as a year are refused.
    """
    from trainfare.fake_step import read_profile

    monkeypatch.chdir(tmp_path)
    page = read_page("start/tutorial.md")
    (day,) = set(re.findall(r"^Ages are counted to (\S+)\.$", page, re.MULTILINE))
    blocks = read_blocks(page)
    blocks = [block for block in blocks if "not run" not in block.mark]
    script, change, tune = (block.text for block in blocks if block.language == "python")
    (trainer,) = re.findall(r"^trainer = pl\.Trainer\(.*\)\n", script, re.MULTILINE)
    with time_machine.travel(day):
        for block in blocks:
            if block.text == script:
                Path("train.py").write_text(script, encoding="utf-8")
            elif block.text == tune:
                Path("tune.py").write_text(tune, encoding="utf-8")
            elif block.text == change:
                assert run_main("profile", "train.py", "-o", "job.json") == 0
                small = script.replace("32_000, 512", "100, 16")  # a step of the page's takes a second
                Path("train.py").write_text(small.replace(trainer, change), encoding="utf-8")
            elif block.language == "sh":
                run_shell(block, tmp_path)
            else:
                (arguments,) = find_commands(block)
                assert run_main(*arguments) == 0
    traced, shown = read_profile("job.json"), read_profile(str(DOCS / "start" / "tutorial.json"))
    assert traced.step_flops == shown.step_flops
    assert (traced.parameters, traced.plan) == (shown.parameters, shown.plan)
    assert {"answer.json", "run.sh"} <= {path.name for path in tmp_path.iterdir()}
    assert len(list(tmp_path.glob("lightning_logs/version_0/trainfare-*"))) == 4


def test_the_installation_lists_every_extra_and_its_commands_run(tmp_path: Path) -> None:
    page = read_page("start/install.md")
    extras = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    table = "".join(line.partition(" | ")[0] for line in page.splitlines() if line.startswith("| "))
    assert set(re.findall(r"`(\w+)`", table)) == set(extras)
    assert any(pattern.search(page) for pattern in ADDRESSES)
    install, commands = read_blocks(page)
    assert "not run" in install.mark
    run_shell(commands, tmp_path)


def test_the_page_of_the_meter_has_every_argument_with_its_default() -> None:
    from trainfare import FareMeter

    rows = re.findall(r"^\| (`[^|]+`) \| `([^|]+)` \|", read_page("fare-meter.md"), re.MULTILINE)
    shown = [(name, default) for names, default in rows for name in re.findall(r"`(\w+)`", names)]
    parameters = inspect.signature(FareMeter.__init__).parameters
    assert shown == [(name, repr(p.default)) for name, p in parameters.items() if name != "self"]


def test_python_of_the_pages_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DOCS / "start" / "tutorial.json", "job.json")
    blocks = [
        block for name in ("fare-meter.md", "reference/python.md") for block in read_blocks(read_page(name))
    ]
    for block in blocks:
        assert block.language in ("python", "{eval-rst}")
        if block.language == "python":
            run_python("-W", "ignore", "-c", block.text, cwd=tmp_path, check=True)


def test_the_reference_has_every_schema_and_every_public_name() -> None:
    import trainfare

    schemas = {path.name for path in (DOCS / "schema").iterdir()}
    assert set(re.findall(r"\(\.\./schema/([\w.-]+)\)", read_page("reference/files.md"))) == schemas
    assert set(re.findall(r"trainfare\.(\w+)$", read_page("reference/python.md"), re.MULTILINE)) == set(
        trainfare.__all__
    )
