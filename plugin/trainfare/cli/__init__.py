"""
The command line: one module for each command, registered here.

Exit codes of every command: 0 done (or within budget), 1 over budget, 2 bad usage or input, 3 cannot tell, 4 a defect
of trainfare, 130 interrupted. Answers go to standard output; progress, warnings and errors go to standard error.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from trainfare.cli.examples import epilog_of
from trainfare.cli.exit_codes import describe_defect, exit_code_of
from trainfare.cli.interrupt import INTERRUPTED_EXIT, end_soon_on_interrupt, was_interrupted
from trainfare.cli.streams import take_over
from trainfare.cli.supervise import run_in_fork, tell_exit_code
from trainfare_core.errors import InputError
from trainfare_core.installation import __version__

__all__ = ["COMMANDS", "app_of", "main"]

_GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "First steps": {
        "demo": "Train a small model and read the answer and its report.",
        "init": "Write the policy and the workflow for the scripts of a folder.",
        "doctor": "Say what is found here, what is missing, and what mends it.",
    },
    "Before a run": {
        "profile": "Trace a script without an accelerator; keep the result.",
        "probe": "Measure some real steps of a script, and rank machines.",
        "calibrate": "Time kernels here, for predictions on this device.",
        "predict": "Time, throughput and memory of one step on a machine.",
    },
    "Decide": {
        "recommend": "Rank every machine for a script, by cost or time.",
        "estimate": "The same from a model's name or size, without code.",
        "why": "Why a machine is not the answer, with figures.",
        "savings": "What would make a run cheaper, each change by itself.",
        "strategy": "Fine-tune or train from scratch: cost to the target.",
        "decline": "Train now or wait: how the cost changes over the years.",
    },
    "Launch": {
        "export": "Write the file that starts a plan; nothing is started.",
    },
    "While it runs, and afterwards": {
        "watch": "Follow a run: steps, dollars, projection, time left, MFU.",
        "ledger": "What runs took and cost, beside what was predicted.",
        "reconcile": "What runs cost on the bill, beside the estimate.",
    },
    "In CI, and for assistants": {
        "check": "Check runs against limits: exit 0 within, 1 over, 3 unknown.",
        "comment": "Write one comment on the pull request of this CI job.",
        "mcp": "Serve assistants by the Model Context Protocol.",
    },
    "Prices": {
        "offers": "The lowest prices of accelerators or machines, with sources.",
        "prices": "Fetch, check, lock and inspect the price book.",
    },
}
"""The commands by group, in the order of `--help`, with the line that it prints of each."""

COMMANDS: Final = tuple(name for group in _GROUPS.values() for name in group)
"""`trainfare.cli.NAME` has a function NAME, or an `app` with commands of its own."""

_RUN_TARGETS: Final = ("profile", "predict", "recommend", "why", "savings", "check", "strategy", "init")
"""Commands that run the code of a TARGET."""
_ALLOCATIONS_PER_COLLECTION: Final = 200_000
"""Chosen: more objects than the imports of a command make, and some tens of MB where a command makes garbage."""


_EPILOG: Final = (
    "Exit codes: 0 done, or within budget; 1 over; 2 bad usage or input; 3 cannot tell; 4 a defect of ours "
    "(TRAINFARE_DEBUG=1 shows where); 130 interrupted."
)


def _show_version(value: bool) -> None:  # noqa: FBT001 - signature of a typer callback
    if value:
        typer.echo(f"trainfare {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(  # noqa: FBT001 - handled by its callback
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Handle the options before the command."""


class _Commands(TyperGroup):
    """The commands; what typer takes for a way to end with 1, which is "over budget", is a defect of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what stands after `--` for the script of a TARGET; see `TargetOptions.find_target`."""
        end = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[end + 1 :])
        return super().parse_args(ctx, args[:end])

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (EOFError, OSError, typer.Abort) as error:
            raise describe_defect(error) from error


def app_of(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the command line with some of its commands; only their modules are imported."""
    app = typer.Typer(
        name="trainfare",
        cls=_Commands,
        help="Predict what a training run costs on every machine you could rent.",
        epilog=_EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    lines = {name: (panel, line) for panel, group in _GROUPS.items() for name, line in group.items()}
    for name in commands:
        panel, line = lines[name]
        module = import_module(f"trainfare.cli.{name}")
        group: object = getattr(module, "app", None)
        if isinstance(group, typer.Typer):
            for command in group.registered_commands:
                command.epilog = epilog_of(f"{name} {command.name}")
            app.add_typer(group, name=name, short_help=line, rich_help_panel=panel)
        else:
            app.command(name, epilog=epilog_of(name), short_help=line, rich_help_panel=panel)(
                getattr(module, name)
            )
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command line and end the process with the documented exit code.

    Args:
        arguments: the arguments after `trainfare`; None takes those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    # No option before the command takes a value, so its name is the first word without a dash.
    command = next((word for word in given if not word.startswith("-")), None)
    if command != "probe":  # whose script is measured as it runs by itself
        # What is imported stays: collecting its thousands of objects again and again is a tenth of a short command.
        gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)
    if command not in ("demo", "probe", "calibrate"):
        # NumPy's OpenBLAS starts a thread for each core when it is imported; no other command computes so much.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if arguments is None:
        take_over()
        if command == "probe":
            run_in_fork()
        if command in _RUN_TARGETS:
            from trainfare.sandbox import hide_memory

            hide_memory()
        end_soon_on_interrupt()
    code = _code_of(given, [command] if command in COMMANDS else COMMANDS)
    if code == 1 and command != "check":  # typer's own, for a shell that it cannot complete
        code = InputError.exit_code
    tell_exit_code(INTERRUPTED_EXIT if was_interrupted() else code)
    if was_interrupted() or code == INTERRUPTED_EXIT:
        sys.stderr.write("interrupted\n")
        sys.stderr.flush()
    if was_interrupted():
        # Now: threads that wait for a network would be waited for.
        os._exit(INTERRUPTED_EXIT)
    if arguments is None:
        # As it ends the interpreter collects all objects, a seventh of a short command; it passes over frozen ones.
        gc.freeze()
    sys.exit(code)


def _code_of(arguments: Sequence[str], commands: Iterable[str]) -> int:
    return exit_code_of(lambda: app_of(commands)(args=arguments, prog_name="trainfare"))
