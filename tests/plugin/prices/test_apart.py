"""Prices that a process of its own reads: this one never loads polars, whose threads do not survive a fork."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from builders.processes import HANG_S
from trainfare.prices.apart import PriceQuestion, ask_apart
from trainfare.prices.sources import load_prices
from trainfare_core.errors import PricesUnavailableError

MACHINE = "aws:p5.48xlarge@us-east-1"


def test_the_price_of_a_machine_is_that_of_the_price_sources() -> None:
    """The same figure as in this process."""
    assert ask_apart(PriceQuestion(machine=MACHINE), HANG_S) == load_prices().book.find(MACHINE).usd_per_hour


def test_nothing_wrong_is_no_answer() -> None:
    """Names that the prices have."""
    assert ask_apart(PriceQuestion(providers=("AWS",), purchase=("spot",)), HANG_S) is None


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (PriceQuestion(machine="aws:p5.48xlarg@us-east-1"), "p5.48xlarge"),
        (PriceQuestion(regions=("us-east1x",)), "us-east1"),
        (PriceQuestion(quota="none.toml"), "quota none.toml"),
        (PriceQuestion(lock="none.lock"), "price lock none.lock"),
        (PriceQuestion(own_prices="none.toml"), "own prices none.toml"),
    ],
)
def test_what_is_wrong_is_said(question: PriceQuestion, said: str) -> None:
    """With the names that are near, or the file."""
    with pytest.raises(PricesUnavailableError, match=said):
        ask_apart(question, HANG_S)


def test_no_answer_in_time() -> None:
    """The process is ended, and the message says how long it was waited for."""
    with pytest.raises(PricesUnavailableError, match="no answer within 0 s"):
        ask_apart(PriceQuestion(), 0.0)


def test_a_process_that_cannot_be_started_is_said(tmp_path: Path) -> None:
    """As on a machine without memory for one more, or where Python itself cannot be found."""
    with pytest.raises(PricesUnavailableError, match="no process could be started to read the prices"):
        ask_apart(PriceQuestion(), HANG_S, python=str(tmp_path / "python"))


@pytest.mark.parametrize("source", ["print('reading')", "raise SystemExit(3)"])
def test_what_a_price_source_prints_is_no_answer(tmp_path: Path, source: str) -> None:
    """A plug-in that prints, or that ends the process, leaves the prices of the others."""
    metadata = tmp_path / "loud_prices-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-prices\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[trainfare.providers]\nloud = loud_prices:Provider\n")
    (tmp_path / "loud_prices.py").write_text(f"{source}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        assert ask_apart(PriceQuestion(machine=MACHINE), HANG_S) is not None


def test_polars_is_not_loaded_here() -> None:
    """Neither for the price of FareMeter's machine nor to check its settings."""
    code = (
        "import json, sys\n"
        "from trainfare.meter.services import MeterServices\n"
        "from trainfare.meter.settings import MeterSettings\n"
        "services = MeterServices()\n"
        f"usd = services.usd_per_hour({MACHINE!r}, None, {HANG_S})\n"
        f"services.check_prices(MeterSettings(providers=('aws',)), {HANG_S})\n"
        "print(json.dumps([usd, 'polars' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    usd, loaded = json.loads(done.stdout)
    assert usd > 0
    assert not loaded
