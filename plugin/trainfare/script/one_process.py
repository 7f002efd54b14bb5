"""What torch, the environment and the keyboard give a script before launch: one process of it runs, on a CPU."""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, cast

import torch

from trainfare.job import RANK_OF_ONE
from trainfare.job.fit_call import Recorder
from trainfare.job.untrained import answer_input
from trainfare.job.user_code import is_users_file, replace_attribute
from trainfare.script.device_count import count_for_users, let_yaml_write
from trainfare.script.no_gpu import skip, stay_on_cpu


@contextlib.contextmanager
def run_as_one_process(recorder: Recorder) -> Generator[None, None, None]:
    """
    Replace what a script asks of devices, of other processes and of a person.

    Args:
        recorder: is told what was asked on the keyboard.
    """
    with contextlib.ExitStack() as stack:

        def replace(home: Any, name: str, value: object) -> None:
            stack.enter_context(replace_attribute(home, name, value))

        if not recorder.only_fit:
            replace(builtins, "input", answer_input(partial(recorder.skip, "input()")))
        has_gpu = torch.cuda.is_available()
        group = _OneProcessGroup(None if has_gpu else stack)
        replace(torch.distributed, "init_process_group", group)
        let_yaml_write()
        for home, name in ((torch.cuda, "device_count"), (torch.distributed, "get_world_size")):
            if name != "device_count" or not has_gpu:
                replace(home, name, count_for_users(getattr(home, name), group.quotients))
        if not has_gpu:
            replace(torch.cuda, "set_device", skip(torch.cuda.set_device))
            accelerator: Any = getattr(torch, "accelerator", None)  # since torch 2.6
            if accelerator is not None:
                replace(accelerator, "current_accelerator", _choose_cpu(accelerator.current_accelerator))
                if hasattr(accelerator, "set_device_index"):
                    replace(accelerator, "set_device_index", skip(accelerator.set_device_index))
        stack.enter_context(_environment())
        yield


def _choose_cpu(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that names the CPU where there is no accelerator: scripts read the type of its answer."""

    @functools.wraps(original)
    def choose(*args: Any, **kwargs: Any) -> Any:
        caller: Any = inspect.currentframe()
        # Torch and libraries know what to do without one.
        of_user = is_users_file(caller.f_back.f_code.co_filename)
        return original(*args, **kwargs) or (torch.device("cpu") if of_user else None)

    return choose


class _OneProcessGroup:
    """
    Makes the process group of one process, in memory, whatever backend and `world_size` were asked for.

    Args:
        on_cpu: until it is closed, what the script moves to a GPU stays on the CPU; None: there is a GPU.
    """

    world_size: object = None

    def __init__(self, on_cpu: contextlib.ExitStack | None) -> None:
        self._on_cpu = on_cpu
        self.quotients: list[float] = []
        """What the script has divided by a number of devices or processes, such as a batch."""

    def __call__(self, *args: object, **given: object) -> None:
        """Do what `init_process_group` does."""
        if self._on_cpu is not None:
            stay_on_cpu(self._on_cpu)
            self._on_cpu = None  # once
        self.world_size = given.get("world_size", args[3] if len(args) > 3 else None)
        loose: Any = torch.distributed
        if not loose.is_initialized():
            loose.distributed_c10d.init_process_group("gloo", store=loose.HashStore(), rank=0, world_size=1)


class _Ranked(os._Environ[str]):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - its only class
    """An environment whose `[]` knows the rank; `in` and `get` see what is really set."""

    def __getitem__(self, key: str) -> str:
        try:
            return super().__getitem__(key)
        except KeyError:
            if key not in RANK_OF_ONE:
                raise
            return RANK_OF_ONE[key]

    def __contains__(self, key: object) -> bool:
        try:
            super().__getitem__(cast("str", key))
        except KeyError:
            return False
        return True

    def get(self, key: str, default: Any = None) -> Any:
        return super().__getitem__(key) if key in self else default


@contextlib.contextmanager
def _environment() -> Generator[None, None, None]:
    """Give the variables of torchrun to code that cannot do without them, and switch off `wandb.init`."""
    environment: Any = os.environ
    before, plain = os.environ.get("WANDB_MODE"), type(os.environ)
    environment["WANDB_MODE"] = "disabled"
    environment.__class__ = type("Ranked", (_Ranked, plain), {})
    try:
        yield
    finally:
        environment.__class__ = plain
        if before is None:
            environment.pop("WANDB_MODE", None)
        else:
            environment["WANDB_MODE"] = before
