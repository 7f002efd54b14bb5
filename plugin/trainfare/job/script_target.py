"""A TARGET that is a training script: `train.py -- --lr 1`, `-m package.train`, or a notebook."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from trainfare_core.errors import TargetError

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile

_MODULE = "-m "
_SEPARATOR = " -- "
ALL_CALLS = 0
"""In place of the number of a call of `fit`: each is wanted."""
RANK_OF_ONE: Final[Mapping[str, str]] = {
    "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip
"""What torchrun sets, with the values of one process: one that traces does not have them, and `[]` finds them."""


@dataclass(frozen=True, slots=True)
class Script:
    """
    A script, as Python would be given it.

    Attributes:
        name: path of a `.py` or `.ipynb` file, or the dotted name of a module.
        is_module: whether it is run as `python -m name`.
        arguments: what its `sys.argv` holds after its own name.
    """

    name: str
    is_module: bool = False
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """
    A measurement of the first steps of a script.

    Attributes:
        steps: optimizer steps to measure.
        save: callbacks that save do so.
        end: called inside the loop, with a function that raises, or returns the profile, None on other ranks than 0; it
            ends the process, so that nothing of the script runs afterwards.
    """

    steps: int
    save: bool
    end: Callable[[Callable[[], JobProfile | None]], NoReturn]


def script_of(target: str) -> Script | None:
    """
    Return the script that a TARGET names, or None where it is a callable, a configuration or a profile.

    Raises:
        TargetError: its arguments have an open quote.

    >>> script_of("-m package.train -- --name 'a b'")
    Script(name='package.train', is_module=True, arguments=('--name', 'a b'))
    >>> script_of("train.py:job") is None
    True
    """
    path, _, tail = target.partition(_SEPARATOR)
    is_module = path.startswith(_MODULE)
    if not is_module and not path.endswith((".py", ".ipynb")):
        return None
    try:
        arguments = tuple(shlex.split(tail))
    except ValueError as error:
        raise TargetError(f"{target}: its arguments are not those of a shell: {error}") from error
    return Script(path.removeprefix(_MODULE).strip() if is_module else path, is_module, arguments)


def command_of(target: str) -> str | None:
    """
    Return what follows `python` in a shell that runs a TARGET; None where a TARGET does not say it.

    Raises:
        TargetError: its arguments have an open quote.

    >>> command_of("-m package.train -- --name 'a b'")
    "-m package.train --name 'a b'"
    >>> command_of("config.yaml")
    'FILL_IN_SCRIPT.py fit --config config.yaml'
    """
    script = script_of(target)
    if script is None or script.name.endswith(".ipynb"):
        is_config = target.endswith((".yaml", ".yml"))
        return f"FILL_IN_SCRIPT.py fit --config {shlex.quote(target)}" if is_config else None
    return shlex.join((*(("-m",) if script.is_module else ()), script.name, *script.arguments))


def target_of(path: str, arguments: tuple[str, ...], *, is_module: bool = False) -> str:
    """
    Return the one line of text that names a TARGET with its arguments.

    >>> target_of("package.train", ("--name", "a b"), is_module=True)
    "-m package.train -- --name 'a b'"
    """
    name = f"{_MODULE}{path}" if is_module else path
    return f"{name}{_SEPARATOR}{shlex.join(arguments)}" if arguments else name
