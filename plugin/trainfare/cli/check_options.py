"""The options of `trainfare check` about its policy and its outputs: several formats at once, each to its own file."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from trainfare.cli.limit_options import RunLimits
from trainfare.cli.option_groups import FORMATS, Format
from trainfare.cli.options import JobOptions
from trainfare.cli.output import check_writable, write_answer
from trainfare_core.errors import InputError, MissingExtraError
from trainfare_core.policy.rules import OnUnknown
from trainfare_providers.disk.toml_file import key_hint


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """Which policy and which of its jobs, and what a check that cannot tell does."""

    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="default: trainfare.toml, or pyproject.toml with a table tool.trainfare, in this folder",
        ),
    ] = None
    only: Annotated[
        list[str] | None, typer.Option("--job", metavar="NAME", help="job of the policy; may be repeated")
    ] = None
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=64, metavar="N", help="jobs of the policy traced at a time")
    ] = 1
    profiles: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="judge a change whose jobs were traced elsewhere (`trainfare profile -o FOLDER`): no code of it runs, "
            "and the policy here is the base's",
        ),
    ] = None
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="show the last runs of each job in this ledger; default: the policy's"
        ),
    ] = None
    on_unknown: Annotated[
        OnUnknown | None,
        typer.Option(help="a check that cannot tell: pass, warn, or fail with exit code 3; default: fail"),
    ] = None

    def check_alone(self, context: typer.Context) -> None:
        """
        Check that no option limits a run: without TARGET, the policy does.

        Raises:
            InputError: such an option is given.
        """
        names = [*RunLimits.__signature__.parameters, *inspect.signature(JobOptions).parameters]
        for name in names:
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                option = f"--{name.replace('_', '-')}"
                raise InputError(
                    f"nothing to check: {option} without TARGET; name a TARGET such as train.py:job, or leave "
                    f"{option} to the policy"
                )

    def check_with_target(self) -> None:
        """
        Check that no option is about a policy: a TARGET has the limits of the command line.

        Raises:
            InputError: such an option is given.
        """
        for option, value in (
            ("--policy", self.policy), ("--job", self.only), ("--jobs", self.jobs > 1), ("--profiles", self.profiles),
        ):  # fmt: skip
            if value:
                raise InputError(
                    f"{option} with TARGET: a policy names its own targets; leave out one of them"
                )


CheckOutputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="[FORMAT=]FILE",
        help="new file to write instead of printing; with FORMAT= besides printing, may be repeated",
    ),
]
Renderers: TypeAlias = Mapping[Format, Callable[[], str]]

_NAMED: Final = re.compile(r"([A-Za-z]+)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Output:
    """One format and the file that it goes to; None is standard output."""

    form: Format
    path: Path | None


def outputs_of(form: Format, given: Sequence[str] | None, *, force: bool = False) -> tuple[Output, ...]:
    """
    Return what to write, after checking that all of it can be; called before the work is done.

    Args:
        form: of `--format`.
        given: values of `--output`: a file for that format, or FORMAT=FILE.
        force: existing files are overwritten.

    Raises:
        InputError: an unknown format, two outputs to one file, or a file that may not be written.
        MissingExtraError: a format needs a package that is not installed.
    """
    plain = [value for value in given or () if not _NAMED.fullmatch(value)]
    if len(plain) > 1:
        raise InputError(
            f"--output {plain[1]}: a second file for --format {form}; name its format: FORMAT=FILE"
        )
    outputs = [Output(form, Path(plain[0]) if plain else None)]
    outputs += [_parse_output(match) for value in given or () if (match := _NAMED.fullmatch(value))]
    paths = [output.path for output in outputs if output.path is not None]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise InputError(f"--output {path}: two formats cannot go to one file")
        check_writable(path, force=force)
    if any(output.form == "junit" for output in outputs) and importlib.util.find_spec("junitparser") is None:
        raise MissingExtraError("junitparser", "ci")
    return tuple(outputs)


def write_outputs(outputs: Sequence[Output], renderers: Renderers) -> None:
    """
    Write the answer in every format, the files before standard output; nothing where one cannot be made.

    Raises:
        InputError: a file cannot be written.
    """
    texts = [(output, renderers[output.form]()) for output in outputs]
    for output, text in sorted(texts, key=lambda pair: pair[0].path is None):
        write_answer(text, output.path, references=output.form in ("markdown", "junit"))


def _parse_output(match: re.Match[str]) -> Output:
    form, path = match[1], match[2]
    known = FORMATS["check"]
    if form not in known:
        raise InputError(
            f"--output {match[0]}: {form!r} is no format; {key_hint(form, known)}; write ./{match[0]} for a file "
            "of that name"
        )
    if not path:
        raise InputError(f"--output {match[0]}: name a file after the =")
    return Output(form, Path(path))
