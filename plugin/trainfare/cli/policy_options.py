"""The options of `trainfare check` about its policy."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trainfare.cli.limit_options import RunLimits
from trainfare.cli.options import LoaderOptions
from trainfare_core.errors import InputError
from trainfare_core.policy.rules import OnUnknown


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
        names = [*RunLimits.__signature__.parameters, *inspect.signature(LoaderOptions).parameters]
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
