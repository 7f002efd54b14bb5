"""The loops of docs/loops.md run as they stand, and are priced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from builders.lightning_modules import MeterHarness
from trainfare import FareMeter

PAGE = Path(__file__).resolve().parents[3] / "docs" / "loops.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)

pytestmark = pytest.mark.sources


@pytest.mark.parametrize(
    ("block", "steps", "accumulated"), [*zip(BLOCKS, (32, 64, 16), (4, 1, 4), strict=True)]
)
def test_a_loop_of_the_page_is_priced(
    block: str, steps: int, accumulated: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the length and the accumulation that stand in it."""
    if "accelerate" in block:
        pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    harness = MeterHarness()
    monkeypatch.setattr(FareMeter, "services", harness.services)
    exec(compile(block, "loops.md", "exec"), {})
    profile = harness.profile
    assert profile.plan.optimizer_steps == steps
    assert profile.parallel.accumulate_grad_batches == accumulated
    assert profile.operations
    assert profile.measured is not None
    assert profile.measured.steps == 10
    assert {path.name for path in tmp_path.iterdir()} == {
        "trainfare-profile.json", "trainfare-report.html", "trainfare-report.json",
    }  # fmt: skip
