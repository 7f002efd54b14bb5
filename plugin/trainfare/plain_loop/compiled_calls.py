"""What a script compiles, run eagerly, and whether any of it is called in the step that is traced."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from trainfare.job.user_code import replace_attribute
from trainfare.trace import torch_private
from trainfare.trace.modes import OperationMode


class CompiledCalls:
    """
    Stands in for `torch.compile`, also where a library calls it at its import.

    Attributes:
        made: something was compiled, by whomever: it runs eagerly.
        in_step: something compiled was called in a traced step.
    """

    def __init__(self) -> None:
        self.made = self.in_step = False

    def replace(self, stack: ExitStack) -> None:
        """Replace `torch.compile` until the stack is closed; `Module.compile` and libraries call that, too."""
        loose: Any = torch
        compile_it = loose.compile

        @functools.wraps(compile_it)
        def compile_eagerly(model: Any = None, *args: Any, **kwargs: Any) -> Any:
            if not self.made:
                self.made = True
                torch_private.import_compiler()
                stack.enter_context(torch_private.run_eagerly())
            made = compile_it(model, *args, **kwargs)
            # Without a model it is a decorator, which calls `torch.compile` with one.
            if model is None or made is model or kwargs.get("disable"):
                return made
            if isinstance(made, nn.Module):
                object.__setattr__(made, "forward", self._note_calls(made.forward, model))
                return made
            return self._note_calls(made, model)

        stack.enter_context(replace_attribute(torch, "compile", compile_eagerly))

    def _note_calls(self, compiled: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(compiled)
        def call(*args: Any, **kwargs: Any) -> Any:
            # Not by what was compiled: its end brings back the dispatch keys of its beginning, in which a trace begins.
            out = original(*args, **kwargs)
            # A validation ends a trace before this.
            self.in_step |= _is_tracing()
            return out

        return call


def _is_tracing() -> bool:
    modes = torch_private.dispatch_modes()
    return any(isinstance(mode, OperationMode) and mode.records(()) for mode in modes)
