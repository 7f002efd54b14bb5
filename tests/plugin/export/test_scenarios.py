"""Every worked scenario, on the services of each target: the target accepts the file, and its figures are the answer's."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import warnings
from pathlib import Path

import pytest

from builders.cli import capture_main
from builders.exports import read_prediction
from trainfare.export import TARGETS, export_plan
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Recommendation

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

TOP = Path(__file__).resolve().parents[3]
SCENARIOS = [
    scenario["arguments"]
    for scenario in tomllib.loads((TOP / "scripts/scenarios.toml").read_text(encoding="utf-8"))["scenario"]
]


def restrict(arguments: str, services: frozenset[str]) -> list[str]:
    """Return the arguments with paths that hold from any folder, and with the target's services alone."""
    words = [str(TOP / word) if word.startswith("docs/") else word for word in shlex.split(arguments)]
    if not services:
        return words
    chosen = services
    if "--service" in words:
        place = words.index("--service")
        chosen = services & set(words[place + 1].split(",")) or services
        del words[place : place + 2]
    return [*words, "--service", ",".join(sorted(chosen))]


def check_accepted(target: str) -> None:
    """Give the file to what reads it on the target, without a network."""
    if target == "sagemaker":
        boto3 = pytest.importorskip("boto3")
        from botocore.validate import ParamValidator

        model = boto3.client("sagemaker", region_name="us-east-1").meta.service_model
        shape = model.operation_model("CreateTrainingJob").input_shape
        report = ParamValidator().validate(json.loads(Path("job").read_text()), shape)
        assert not report.generate_report()
    elif target == "azureml":
        ml = pytest.importorskip("azure.ai.ml")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of azure-ai-ml's own
            result = ml.load_job("job")._validate()
            assert result.passed, result.error_messages
            ml.load_compute("job-compute.yml")
    elif target == "torchrun":
        subprocess.run(["sh", "-n", "job"], check=True)
    else:
        task = pytest.importorskip("yaml").safe_load(Path("job").read_text())
        assert {"num_nodes", "resources", "run"} <= set(task)  # `make test-export` asks SkyPilot itself


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("arguments", SCENARIOS)
def test_the_target_takes_the_plan_of_a_scenario(
    arguments: str,
    target: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = restrict(arguments, TARGETS[target][1])
    done = capture_main(capsys, "recommend", *words, "--as-of", "2026-11-30", "--format", "json")
    nothing = done.exit_code == 3 or "no price is known for service" in done.stderr
    if nothing:  # these services have no machine within the scenario's limits
        return
    assert done.exit_code == 0, done.stderr
    answer = Recommendation.from_json(done.stdout)
    best = answer.best("cheapest")
    is_too_long = best is not None and target == "sagemaker" and best.run_hours.high_80 > 500
    has_rdma = best is not None and re.match(r"Standard_[A-Z]+\d+[a-z]*r", best.instance_type)
    lacks_rdma = best is not None and target == "azureml" and best.nodes > 1 and not has_rdma
    if best is None or is_too_long or lacks_rdma:
        with pytest.raises(
            InputError, match=r"the answer has none|ends a job after 28 days|--porting|no RDMA network"
        ):
            export_plan(answer, target, "cheapest")
        return
    files = export_plan(answer, target, "cheapest")
    Path("job").write_text(files.text)
    for ending, text in files.beside.items():
        Path(f"job{ending}").write_text(text)
    check_accepted(target)
    prediction = read_prediction(files.text)
    assert prediction is not None
    hours, dollars = best.run_hours, best.run_usd
    assert prediction.hours == (hours.low_80, hours.mid, hours.high_80)
    assert prediction.usd == (dollars.low_80, dollars.mid, dollars.high_80)
