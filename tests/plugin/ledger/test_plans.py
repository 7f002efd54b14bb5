"""From plan to bill without FareMeter: an exported plan is in the ledger, and its launch file has its prediction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.bills import focus_line, write_csv
from builders.cli import capture_main
from builders.exports import plan, small_answer
from trainfare.ledger.plans import read_estimates
from trainfare_core.bills.reconciliation import BillReconciliation
from trainfare_core.errors import InputError
from trainfare_core.recommendation import Recommendation

AZURE = {
    "provider": "azure",
    "service": "azure_ml",
    "instance_type": "Standard_NC64as_T4_v3",
    "region": "eastus",
}
TARGETS = {
    "torchrun": {}, "skypilot": {}, "azureml": {**AZURE, "accelerator": "T4-16GB"},
    "sagemaker": {"service": "sagemaker", "instance_type": "ml.g6.12xlarge"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINFARE_LEDGER", str(tmp_path / "ledger"))


def write_answer(**fields: object) -> Recommendation:
    """Write an answer of one plan, whose strategy has both quotes, into answer.json, and return it."""
    words = plan(strategy="""FSDPStrategy(policy={'Block'}, name="it's")""")
    answer = small_answer(trainer=words, **fields)
    Path("answer.json").write_text(answer.to_json())
    return answer


def reconcile(capsys: pytest.CaptureFixture[str], run: str, *arguments: object) -> BillReconciliation:
    bill = write_csv(Path("bill.csv"), [focus_line("10", run=run)])
    done = capture_main(capsys, "reconcile", bill, "--format", "json", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return BillReconciliation.model_validate_json(done.stdout)


@pytest.mark.parametrize("target", TARGETS)
def test_every_file_has_the_prediction(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an answer too; with a bucket for a ledger, which `export` does not ask, it is all that there is."""
    option = write_answer(**TARGETS[target]).options[0]
    Path("trainfare.toml").write_text('[ledger]\nfolder = "s3://none/runs"\n')
    arguments = ("export", "answer.json", "--to", target, "--output", f"job.{target}")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRAINFARE_LEDGER")
        assert capture_main(capsys, *arguments).exit_code == 0
    assert "s3://none/runs" in Path(f"job.{target}").read_text()
    for file in (f"job.{target}", "answer.json"):
        (run,) = reconcile(capsys, option.plan_id, "--answer", file).runs
        assert run.estimate_usd == option.run_usd


def test_a_plan_in_a_folder_is_the_estimate_of_its_bill(capsys: pytest.CaptureFixture[str]) -> None:
    """Once, however often it is exported; `ledger list` and `ledger why` say what they know of it."""
    option = write_answer().options[0]
    for name in ("a.sh", "b.sh"):
        done = capture_main(capsys, "export", "answer.json", "--to", "torchrun", "-o", name)
        assert ("wrote the prediction to" in done.stderr) == (name == "a.sh")
    answer = reconcile(capsys, option.plan_id)
    assert (answer.runs[0].estimate_usd, answer.notes) == (option.run_usd, ())
    (listed,) = json.loads(capture_main(capsys, "ledger", "list", "--format", "json").stdout)["runs"]
    assert (listed["state"], listed["usd"]["predicted"]["mid"]) == ("planned", option.run_usd.mid)
    assert capture_main(capsys, "ledger", "why", option.plan_id).exit_code == 0


def test_an_unknown_estimate_has_its_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (note,) = reconcile(capsys, "0" * 12).notes
    assert note.startswith("no estimate of 000000000000: no run or plan in ")
    assert note.endswith("ledger has it: name its answer or exported file with --answer")
    monkeypatch.setenv("TRAINFARE_LEDGER", "off")
    (note,) = reconcile(capsys, "0" * 12).notes
    assert "the ledger is off" in note


def test_a_ledger_that_cannot_be_written_is_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_answer()
    Path("file").touch()
    monkeypatch.setenv("TRAINFARE_LEDGER", "file/ledger")
    done = capture_main(capsys, "export", "answer.json", "--to", "torchrun", "-o", "a.sh")
    assert done.exit_code == 0
    assert "warning: the prediction is not in the ledger file/ledger: Not a directory" in done.stderr


@pytest.mark.parametrize(
    "text", ["", "{}", "TRAINFARE_PREDICTION='x", 'TRAINFARE_PREDICTION: "{\\"id\\": 1}"']
)
def test_what_has_no_prediction_is_refused(text: str) -> None:
    Path("file").write_text(text)
    with pytest.raises(InputError, match="answer file: neither an answer as JSON nor a file of"):
        read_estimates([Path("file")])
