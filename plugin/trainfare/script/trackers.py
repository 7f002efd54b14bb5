"""What would begin a run of a tracker or change a repository of a hub before launch does nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any, Final

from trainfare.job.on_import import on_import
from trainfare.job.user_code import replace_attribute

_MODES: Final = {"NEPTUNE_MODE": "debug", "CLEARML_OFFLINE_MODE": "1", "SWANLAB_MODE": "disabled"}
"""Variables by which trackers are switched off; of W&B see `intercept_trainers`."""
_REMOTE: Final = ("http:", "https:", "databricks")
_CHANGES: Final = ("create_", "upload_", "delete_", "update_", "move_", "super_squash_")
"""How methods of Hugging Face's client begin that change what is on a hub."""


def switch_off_trackers(stack: ExitStack, skip: Callable[[str], None]) -> None:
    """
    Let W&B, MLflow and others begin no run, and nothing be pushed to Hugging Face's hub, until the stack is closed.

    Args:
        stack: undoes it.
        skip: told the name of each call that does nothing.
    """
    for name, value in _MODES.items():
        os.environ.setdefault(name, value)
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith(_REMOTE):
        del os.environ["MLFLOW_TRACKING_URI"]
    for name, change in (
        ("wandb", _disable_wandb),
        ("mlflow", _keep_mlflow_here),
        ("huggingface_hub.hf_api", _change_no_hub),
    ):
        stack.enter_context(on_import(name, partial(change, stack, skip)))


def _disable_wandb(stack: ExitStack, _: Callable[[str], None]) -> None:
    wandb: Any = sys.modules["wandb"]
    original = wandb.init

    @wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "mode": "disabled"})

    stack.enter_context(replace_attribute(wandb, "init", init))


def _keep_mlflow_here(stack: ExitStack, skip: Callable[[str], None]) -> None:
    mlflow: Any = sys.modules["mlflow"]
    original = mlflow.set_tracking_uri

    @wraps(original)
    def choose(uri: Any, *args: Any, **kwargs: Any) -> Any:
        if str(uri).startswith(_REMOTE):
            return skip("mlflow.set_tracking_uri")
        return original(uri, *args, **kwargs)

    stack.enter_context(replace_attribute(mlflow, "set_tracking_uri", choose))


def _change_no_hub(stack: ExitStack, skip: Callable[[str], None]) -> None:
    home: Any = sys.modules["huggingface_hub.hf_api"]

    def make_nothing(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            skip(f"huggingface_hub.{name}")
            repository = kwargs.get("repo_id") or next(
                (text for text in args if isinstance(text, str)), "name"
            )
            url = f"{home.constants.ENDPOINT}/{repository if '/' in repository else f'user/{repository}'}"
            if name == "create_repo":
                return home.RepoUrl(url, endpoint=home.constants.ENDPOINT)
            is_commit = name.startswith(("create_commit", "upload_"))
            made = home.CommitInfo(
                commit_url=f"{url}/commit/0", commit_message="", commit_description="", oid="0"
            )
            return made if is_commit else None

        return call

    for name in [name for name in dir(home.HfApi) if name.startswith(_CHANGES)]:
        original = getattr(home.HfApi, name)
        stack.enter_context(replace_attribute(home.HfApi, name, make_nothing(name, original)))
        if hasattr(home, name):  # the same method, of the client that the module has made
            bound = getattr(home, name)
            stack.enter_context(replace_attribute(home, name, make_nothing(name, bound)))
