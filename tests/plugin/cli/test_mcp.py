"""`trainfare mcp`, asked by the client of the official SDK: in memory, and on the pipes of a real process."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from builders.cli import capture_main
from builders.profiles import profile

pytest.importorskip("mcp", reason="the extra mcp")
anyio: Any = pytest.importorskip("anyio")

from jsonschema import Draft202012Validator  # noqa: E402
from mcp import Client, StdioServerParameters  # noqa: E402
from mcp.client.stdio import stdio_client  # noqa: E402

from trainfare.cli.mcp import TOOLS, make_server, words_of  # noqa: E402
from trainfare_core.errors import InputError  # noqa: E402

PREDICT = {"job": "job.json", "on": "H100-SXM-80GB"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "job.json").write_text(profile().to_json(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(server: Any, question: Callable[[Client], Awaitable[Any]]) -> Any:
    """Return what a client gets of a server."""

    async def run() -> Any:
        async with Client(server) as client:
            return await question(client)

    return anyio.run(run)


def call(tool: str, arguments: dict[str, Any], server: Any = None) -> tuple[bool, list[str]]:
    """Call one tool; return whether it failed, and its texts."""
    result = ask(server or make_server(TOOLS), lambda client: client.call_tool(tool, arguments))
    return result.is_error, [content.text for content in result.content]


def test_the_tools_are_the_commands_that_only_read() -> None:
    """Each with the sentence of its help, and a schema that the protocol takes; what writes or hands out is not there."""
    tools = {tool.name: tool for tool in ask(make_server(TOOLS), lambda client: client.list_tools()).tools}
    assert set(tools) == {"estimate", "recommend", "why", "offers", "predict"}
    for tool in tools.values():
        Draft202012Validator.check_schema(tool.input_schema)
        assert not tool.input_schema["properties"].keys() & {
            "output",
            "force",
            "pass_env",
            "arguments_of_script",
        }
        assert tool.description
    schema = tools["predict"].input_schema
    assert schema["required"] == ["on"]
    assert schema["properties"]["devices"]["type"] == "integer"
    assert schema["properties"]["format"]["enum"] == ["table", "json"]
    assert tools["why"].input_schema["required"] == ["machine"]
    read_only = {name for name, tool in tools.items() if tool.annotations.read_only_hint}
    assert read_only == {"estimate", "offers"}  # the others may run the code of a TARGET


def test_a_tool_answers_as_its_command_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed, (text, *_) = call("predict", {**PREDICT, "devices": 8, "format": "json"})
    command = ["predict", "job.json", "--on", "H100-SXM-80GB", "--devices", "8", "--format", "json"]
    assert not failed
    assert text == capture_main(capsys, *command).stdout


def test_an_error_of_a_command_is_one_of_its_tool(folder: Path) -> None:
    failed, (text,) = call("predict", {**PREDICT, "on": "H1000"})
    assert failed
    assert text.startswith("error: 'H1000' is no accelerator")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("predict", {**PREDICT, "job": "--output=stolen"}),
        ("predict", {**PREDICT, "job": "-"}),
        ("predict", {**PREDICT, "pass_env": ["AWS_SECRET_ACCESS_KEY"]}),
        ("recommend", {"job": "job.json", "output": "stolen"}),
        ("demo", {}),
        ("predict", {**PREDICT, "on": "a\x00b"}),
    ],
    ids=["flag as job", "standard input", "credential", "file", "other command", "null character"],
)
def test_what_is_withheld_cannot_be_had_another_way(
    tool: str, arguments: dict[str, Any], folder: Path
) -> None:
    failed, (text,) = call(tool, arguments)
    assert failed
    assert text.startswith("error: ")
    assert [path.name for path in folder.iterdir()] == ["job.json"]


def test_values_become_words_of_the_command_line() -> None:
    """By hand: a flag alone for true, none for false and null, one for each entry of a list."""
    given = {
        "no_cache": True,
        "no_real": False,
        "machine": "p5",
        "job": "a b.json",
        "max_usd": None,
        "provider": ["aws", "-x"],
    }
    with pytest.raises(InputError, match="as listed"):
        words_of("why", {**given, "seq": 5}, TOOLS)
    words = words_of("why", given, TOOLS)
    assert words[:3] == ["why", "p5", "a b.json"]
    assert sorted(words[3:]) == ["--no-cache", "--provider=-x", "--provider=aws"]


def test_only_the_tools_that_are_asked_for() -> None:
    server = make_server(["offers"])
    assert [tool.name for tool in ask(server, lambda client: client.list_tools()).tools] == ["offers"]
    failed, (text,) = call("predict", PREDICT, server)
    assert failed
    assert "the tools are offers" in text


def test_unknown_tool_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    done = capture_main(capsys, "mcp", "--tool", "offers,demo")
    assert done.exit_code == 2
    assert "give some of estimate" in done.stderr


def test_a_real_process_serves_on_its_pipes(folder: Path) -> None:
    """With a module of ours in the working folder, which no call imports."""
    (folder / "polars.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    started = StdioServerParameters(
        command=sys.executable,
        args=["-m", "trainfare", "mcp"],
        cwd=str(folder),
    )
    failed, (text, *_) = call(
        "offers", {"limit": 2, "format": "json", "provider": ["aws"]}, stdio_client(started)
    )
    assert not failed, text
    assert len(json.loads(text)["offers"]) == 2
