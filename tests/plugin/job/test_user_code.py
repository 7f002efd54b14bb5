"""The user's own line in a traceback."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from trainfare.job.user_code import place_in_user_code


def traceback_through(*files: Path) -> TracebackType | None:
    """Return the traceback of an error raised through functions that seem to lie in these files, outermost first."""
    space: dict[str, Any] = {}
    for index, file in enumerate(reversed(files)):
        body = "inner()" if index else "raise ValueError('values')"
        space = {"inner": space.get("step")}
        exec(compile(f"def step():\n    {body}\n", str(file), "exec"), space)
    call = space["step"]
    try:
        call()
    except ValueError as error:
        trace = error.__traceback__
        return trace.tb_next if trace is not None else None
    return None


@pytest.mark.parametrize(
    "prefix",
    ["/usr/lib/python3/dist-packages", "/opt/venv/lib/python3.12/site-packages"],
)
def test_a_package_under_another_prefix_is_not_the_users_code(prefix: str, tmp_path: Path) -> None:
    """A virtual environment over the system's packages has torch under a prefix that is not the interpreter's."""
    script = tmp_path / "train.py"
    torch_file = Path(prefix) / "torch" / "_subclasses" / "fake_impls.py"
    library = Path(prefix) / "segmentation" / "loss.py"
    assert place_in_user_code(traceback_through(script, torch_file)) == f"{script}:2 in step"
    assert place_in_user_code(traceback_through(script, library, torch_file)) == (
        f"{Path('segmentation', 'loss.py')}:2 in step, called from {script}:2 in step"
    )
