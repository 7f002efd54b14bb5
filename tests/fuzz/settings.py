"""Targets: the files that people write: strategy questions, own prices, LightningCLI configurations, CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from fuzz.market import NOW, book
from fuzz.target import Target, file_of
from trainfare.base_commit.dependencies import list_changed_dependencies
from trainfare.cli.decline import decline_errors_as_input, read_series
from trainfare.cli.decline_tables import build_forecast
from trainfare.estimate.models import model_named
from trainfare.lightning.cli_config import job_from_config, read_config
from trainfare.methods.request import read_strategy_file, request_of
from trainfare.policy import place_of
from trainfare.prices.constraints import with_book_names
from trainfare.prices.own_prices_file import read_own_prices
from trainfare.prices.quotas import read_quotas
from trainfare.prices.run_cost_table import read_run_cost
from trainfare.report.render.text import format_lines
from trainfare.script.find_scripts import find_scripts
from trainfare_core.decline import forecast_from_series
from trainfare_core.errors import InputError
from trainfare_core.prices.own_prices import apply_own
from trainfare_core.ranking.pricing.quotas import machines_allowed
from trainfare_core.recommendation import Constraints, PricedPlan
from trainfare_core.recommendation.launch import MOST_CHARACTERS

_OWN_PRICES: Final = b"""\
[[discount]]
name = "Enterprise agreement"
provider = "aws"
percent = 12.5
regions = ["us-east-1"]
[[rate]]
name = "Reservation 4711"
provider = "aws"
service = "ec2"
instance_type = "p5.48xlarge"
region = "us-east-1"
purchase_option = "reserved_1y"
usd_per_hour = 31.50
agreed_on = 2026-07-01
valid_until = 2027-08-31
"""
_RUN_COST: Final = b"""\
[run_cost]
startup_s = 300
stage_gb_per_s = 0.5
checkpoints_kept = 3
"""
_QUOTAS: Final = b"""\
[[quota]]
provider = "aws"
region = "us-east-1"
family = "p"
vcpus = 384
[[quota]]
provider = "gcp"
family = ["H100", "TPU-v5p"]
purchase = ["on_demand", "spot"]
accelerators = 16
[[quota]]
provider = "aws"
family = "ml.p5.48xlarge"
machines = 2
"""
_MODEL_CONFIG: Final = (
    b'{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2}'
)
_STRATEGY: Final = b"""\
target = "train.py:job"
domain = "nlp-glue"
samples = 1e5
strategies = ["lora", "full_finetune"]
within-pct = 2.5
max-usd = 500
providers = "aws"
"""
_PROJECT: Final = b"""\
[project]
name = "x"
dependencies = ["torch>=2"]
[tool.uv]
dev-dependencies = []
[dependency-groups]
dev = ["pytest"]
"""
_CONFIG: Final = b"""\
seed_everything: 1
trainer: {max_epochs: 4, max_steps: -1, precision: bf16-true, devices: 2, strategy: ddp}
model:
  class_path: package.Net
  init_args: {width: 6, lr: 0.1}
data:
  class_path: package.Data
  init_args:
    batch_size: 5
"""
_SOURCE: Final = b"""\
import jobs
class Jobs(jobs.Base):
    if jobs.fast:
        def job(self):
            return "\\d"
try:
    job: object = Jobs().job
except (KeyError, ValueError) as error:
    with open(__file__) as file:
        job = lambda: [x for x in file]
"""
_SERIES: Final = b"date,cost,production\n2018,100,1\n2019,60,3\n2020-01-01,40,8\n2021.0,22,20\n"


_SCRIPT: Final = b"""\
import lightning as L

if __name__ == "__main__":
    L.Trainer(max_epochs=3).fit(Net())
"""


def _script_source(data: bytes) -> None:
    with file_of(data, "train.py") as path:
        assert all(name == path.as_posix() for name, _ in find_scripts([path]))


def _target_source(data: bytes) -> None:
    with file_of(data, "train.py") as path:
        for name in ("job", "Jobs.job"):
            source_place = place_of(f"train.py:{name}", path.parent)
            assert source_place is not None
            assert 1 <= source_place.line <= data.count(b"\n") + data.count(b"\r") + 1


def _own_prices(data: bytes) -> None:
    with file_of(data, "own.toml") as path:
        own = read_own_prices(path)
    applied = apply_own(book(), own.prices, day=NOW.date())
    assert len(applied.book) >= 0
    prices = applied.book.frame["usd_per_hour"]
    assert (prices.is_finite() & (prices > 0)).all()


def _quotas(data: bytes) -> None:
    with file_of(data, "quota.toml") as path:
        quotas = read_quotas(path)
    constraints = with_book_names(Constraints(quotas=quotas, purchase=("on_demand", "spot")), book())
    assert (machines_allowed(book().frame, constraints.quotas) >= 0).all()


def _run_cost(data: bytes) -> None:
    with file_of(data, "pyproject.toml" if b"tool.trainfare" in data else "trainfare.toml") as path:
        assumed = read_run_cost(path.parent)
    assert assumed.checkpoints_kept >= 0
    assert assumed.stage_s(100.0) >= 0


def _model_config(data: bytes) -> None:
    with file_of(data, "config.json") as path:
        model = model_named(str(path))
    assert model.name


def _strategy(data: bytes) -> None:
    with file_of(data, "strategy.toml") as path:
        values = read_strategy_file(path)
    request = request_of(values, "strategy.toml")
    assert request.question.higher_is_better in (True, False)


class _Repository:
    """The working tree has the bytes, the other commit an honest file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list_changed_files(self, _commit: Any) -> list[str]:
        return ["pyproject.toml"]

    def file_at(self, _commit: Any, _name: str) -> bytes:
        return _PROJECT


def _dependencies(data: bytes) -> None:
    with file_of(data, "pyproject.toml") as path:
        repository: Any = _Repository(path.parent)
        list_changed_dependencies(repository, repository, [PurePosixPath()])


def _lightning_config(data: bytes) -> None:
    with file_of(data, "config.yaml") as path:
        config = read_config(path)
        for name, stand_in in (("model", "Net"), ("data", "Data")):
            section = config.get(name)
            if isinstance(section, dict) and isinstance(section.get("class_path"), str):
                # The fuzzer must not import and call whatever class it makes up.
                section["class_path"] = f"fuzz.stand_ins.{stand_in}"
        for name in ("optimizer", "lr_scheduler"):
            config.pop(name, None)
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        job = job_from_config(path)
    assert job.batch_size


def _all_series() -> Sequence[bytes]:
    return [_SERIES, b"date,cost\n2018,100\n2019,60\n2020,40\n"]


def _series(data: bytes) -> None:
    with file_of(data, "costs.csv") as path:
        series = read_series(path)
    with decline_errors_as_input():
        answer = forecast_from_series(
            series, series.times[-1] + 5, "wright" if series.production else "moore"
        )
    answer.to_json()
    format_lines(build_forecast(answer))


def _read_priced_plan(data: bytes) -> None:
    plan = PricedPlan.from_text(data.decode("utf-8", "replace"))
    if plan is None:
        raise InputError("no plan that was priced")
    assert len(plan.to_text()) <= MOST_CHARACTERS
    assert plan.list_differences(plan) == []


TARGETS = (
    Target(
        "priced_plan",
        _read_priced_plan,
        lambda: [b'{"id":"0123456789ab","strategy":"fsdp","devices":8,"nodes":1,"hours":[1.0,2.0,3.0]}'],
        "json",
        ("trainfare_core/recommendation/launch.py",),
    ),
    Target(
        "script_source",
        _script_source,
        lambda: [_SOURCE, _SCRIPT],
        "text",
        ("trainfare/script/find_scripts.py",),
    ),
    Target("target_source", _target_source, lambda: [_SOURCE], "text", ("trainfare/policy/target_place.py",)),
    Target(
        "own_prices",
        _own_prices,
        lambda: [_OWN_PRICES, b"[a" + b".b" * 4_000 + b"]\n", b"[a" + b".b" * 100_000 + b"]\n"],
        "text",
        ("trainfare/prices/own_prices_file.py",),
    ),
    Target("quotas", _quotas, lambda: [_QUOTAS], "text", ("trainfare/prices/quotas.py",)),
    Target(
        "run_cost",
        _run_cost,
        lambda: [_RUN_COST, b"[tool.trainfare." + _RUN_COST[1:]],
        "text",
        ("trainfare/prices/run_cost_table.py",),
    ),
    Target("model_config", _model_config, lambda: [_MODEL_CONFIG], "json", ("trainfare/estimate/models.py",)),
    Target("strategy_file", _strategy, lambda: [_STRATEGY], "text", ("trainfare/methods/request.py",)),
    Target(
        "dependencies", _dependencies, lambda: [_PROJECT], "text", ("trainfare/base_commit/dependencies.py",)
    ),
    Target(
        "lightning_config",
        _lightning_config,
        lambda: [_CONFIG],
        "text",
        ("trainfare/lightning/cli_config.py",),
    ),
    Target("cost_series", _series, _all_series, "csv", ("trainfare/cli/decline.py",)),
)
