"""`trainfare mcp`: commands that only read, as tools of a server of the Model Context Protocol."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from trainfare.cli.limit_options import separate
from trainfare_core.errors import InputError, MissingExtraError
from trainfare_core.installation import __version__

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

TOOLS: Final = ("estimate", "recommend", "why", "offers", "predict")
_RUN_NO_CODE: Final = ("estimate", "offers")
_WITHHELD: Final = ("output", "force", "pass_env", "arguments_of_script")
"""What writes a file, hands out a credential, or is for the command line alone."""
_BOOT: Final = "import sys; sys.path[:] = filter(None, sys.path); from trainfare.cli import main; main()"
"""Starts a command that imports nothing of the working folder."""


def mcp(
    tool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            callback=separate,
            help=f"only these of {', '.join(TOOLS)}; several with commas; {' and '.join(_RUN_NO_CODE)} run no TARGET",
        ),
    ] = None,
) -> None:
    """Serve assistants by the Model Context Protocol: estimate, recommend, why, offers and predict as tools."""
    names = TOOLS if tool is None else tuple(tool)
    if not {*names} <= {*TOOLS}:
        raise InputError(f"--tool {','.join(names)}: give some of {', '.join(TOOLS)}")
    try:
        import anyio
        from mcp.server.stdio import stdio_server
    except ImportError as error:
        raise MissingExtraError("mcp", "mcp") from error
    server = make_server(names)

    async def serve() -> None:
        async with stdio_server() as (requests, answers):
            await server.run(requests, answers, server.create_initialization_options())

    anyio.run(serve)


def make_server(names: Sequence[str]) -> Server[Any]:
    """Return the server with the tools of these names; each call runs the command in a process of its own."""
    import anyio
    from mcp import types
    from mcp.server.lowlevel import Server

    def describe_tool(name: str) -> types.Tool:
        inputs = list_inputs(name)
        schema = {
            "type": "object",
            "properties": {key: schema for key, (_, schema, _) in inputs.items()},
            "required": [key for key, (_, _, is_required) in inputs.items() if is_required],
            "additionalProperties": False,
        }
        hints = types.ToolAnnotations(read_only_hint=name in _RUN_NO_CODE, destructive_hint=False)
        about = inspect.getdoc(_find_command(name))
        return types.Tool(name=name, description=about, input_schema=schema, annotations=hints)

    async def list_tools(_context: object, _page: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[describe_tool(name) for name in names])

    async def call_tool(_context: object, call: types.CallToolRequestParams) -> types.CallToolResult:
        failed = True
        try:
            command = [sys.executable, "-c", _BOOT, *words_of(call.name, call.arguments or {}, names)]
            done = await anyio.run_process(command, stdin=subprocess.DEVNULL, check=False)
            failed = done.returncode != 0
            texts = [output.decode(errors="replace") for output in (done.stdout, done.stderr) if output]
        except (InputError, ValueError) as error:  # a null character is in no command line
            texts = [f"error: {error}"]
        return types.CallToolResult(content=[types.TextContent(text=text) for text in texts], is_error=failed)

    return Server("trainfare", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


def _find_command(name: str) -> Any:
    return getattr(import_module(f"trainfare.cli.{name}"), name)


def list_inputs(tool: str) -> dict[str, tuple[str, dict[str, Any], bool]]:
    """Return the flag of each input of a tool, "" of an argument, its JSON schema, and whether it is required."""
    from pydantic import TypeAdapter

    inputs: dict[str, tuple[str, dict[str, Any], bool]] = {}
    for name, parameter in inspect.signature(_find_command(tool), eval_str=True).parameters.items():
        (info,) = parameter.annotation.__metadata__
        # Inside of Annotated, the first of the names stands where the default would.
        names = (info.default, *(info.param_decls or ()), f"--{name.replace('_', '-')}")
        is_option = isinstance(info, type(typer.Option()))
        flag = next(text for text in names if str(text).startswith("--")) if is_option else ""
        schema = TypeAdapter(parameter.annotation.__origin__).json_schema()
        key = flag[2:].replace("-", "_") or name
        if key not in _WITHHELD:
            required = parameter.default is parameter.empty
            inputs[key] = flag, {**schema, "description": info.help or ""}, required
    return inputs


def words_of(tool: str, given: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """
    Return the words of the command line of a call of one of these tools.

    Raises:
        InputError: no such tool or input, or an argument that would be read as an option.
    """
    inputs = list_inputs(tool) if tool in names else {}
    if tool not in names or not given.keys() <= inputs.keys():
        raise InputError(f"{tool} with {', '.join(given)}: the tools are {', '.join(names)}, as listed")
    words = [tool]
    for name, (flag, _, _) in inputs.items():
        value: Any = given.get(name)
        for part in cast("list[object]", value) if isinstance(value, list) else (value,):
            if not flag and str(part).startswith("-"):
                raise InputError(f"{name} {part}: it may not begin with a dash")
            if part is not None and part is not False:
                words.append(flag if part is True else f"{flag}={part}" if flag else str(part))
    return words
