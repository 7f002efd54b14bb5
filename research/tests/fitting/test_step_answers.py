"""Rows that are no language models: predicted together where they share a trace, each by its own fit and machines."""

from __future__ import annotations

from typing import Literal

import pytest

pytest.importorskip("timm")
pytest.importorskip("transformers")

from builders.profiles import profile
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_core.prediction.roofline.features import Path
from trainfare_research.fitting.one_plan import Answer, Plan, predict_plan, predict_plans
from trainfare_research.fitting.step_answers import plan_of, step_answers
from trainfare_research.fitting.step_work import Work
from trainfare_research.fitting.table_lines import ZERO_2

JOB = profile(batch_size=128, dtype="fp16")
WORK = Work(JOB, 1.0, 0.2)


def row(name: str, devices: int, nodes: int = 1, strategy: str = "ddp", notes: str = "") -> dict[str, str]:
    return {
        "source": "made", "model": "resnet50", "precision": "amp_fp16", "framework": "pytorch 2.3.0",
        "accelerator": name, "measured": "training iterations", "devices": str(devices), "nodes": str(nodes),
        "strategy": strategy, "notes": notes,
    }  # fmt: skip


def step_s(line: dict[str, str], fit: Calibration | None = None) -> float:
    """Return the predicted seconds of a row, which must have an answer."""
    answer = predict_plan(prepare(JOB, fit or calibration()), plan_of(line, WORK))
    assert not isinstance(answer, str), answer
    return answer[0]


def test_rows_of_one_trace_have_the_answers_that_they_have_alone() -> None:
    lines = [
        row("V100-SXM2-16GB", 1), row("A100-SXM4-80GB", 8), row("A100-SXM4-40GB", 16, 2, notes="100 Gbps"),
        row("T4-16GB", 4, strategy="fsdp"), row("V100-SXM2-16GB", 4, strategy="DataParallel (single process)"),
    ]  # fmt: skip
    works = {i: Work(JOB, ratio, 0.2) for i, ratio in enumerate((1.0, 0.5, 2.0, 1.0, 1.0))}
    together = step_answers(lines, works, None)
    assert sorted(together) == sorted(works)
    for i, line in enumerate(lines):
        answer, alone = together[i], step_answers([line], {0: works[i]}, None)[0]
        assert isinstance(answer, Answer)
        assert isinstance(alone, Answer)
        assert answer.predicted_s == pytest.approx(alone.predicted_s, rel=1e-12)
        assert answer.log_sigma == pytest.approx(alone.log_sigma, rel=1e-12)
    assert len({answer.predicted_s for answer in together.values() if isinstance(answer, Answer)}) == 5


def test_a_row_without_an_answer_leaves_those_of_its_trace_alone() -> None:
    good = row("V100-SXM2-16GB", 4)
    lines = [good, {**good, "devices": "many"}, row("T4-16GB", 8, 2), good, good]
    works: dict[int, Work | str] = {**dict.fromkeys(range(4), WORK), 4: "a model that is not described"}
    answers = step_answers(lines, works, None)
    assert [isinstance(answers[i], Answer) for i in range(5)] == [True, False, False, True, False]
    for i, reason in {1: "cannot be read", 2: "network", 4: "not described"}.items():
        assert reason in str(answers[i])


def test_devices_that_machines_cannot_share_evenly_have_no_answer() -> None:
    answers = predict_plans(
        prepare(JOB), [Plan("T4-16GB", 1.0, 3, 2, 100.0), Plan("T4-16GB", 1.0, 4, 2, 100.0)]
    )
    assert answers[0] == "devices are no multiple of nodes"
    assert isinstance(answers[1], tuple)


class WithoutVoltas(Calibration):
    """A fit that cannot predict one device."""

    def device_logit(self, device: Accelerator, part: Path | Literal["memory"], convolution: bool) -> float:
        if device.name.startswith("V100"):
            msg = "no coefficients of a V100"
            raise LookupError(msg)
        return super().device_logit(device, part, convolution)


def test_a_prediction_that_fails_costs_its_own_row_alone() -> None:
    fit = WithoutVoltas.model_validate(calibration().model_dump())

    class Failing:
        def of(self, line: dict[str, str]) -> Calibration:
            return fit

    lines = [row("T4-16GB", 1), row("V100-SXM2-16GB", 4), row("T4-16GB", 2)]
    answers = step_answers(lines, dict.fromkeys(range(3), WORK), Failing())
    assert [isinstance(answers[i], Answer) for i in range(3)] == [True, False, True]
    assert answers[1] == "cannot be read: LookupError: no coefficients of a V100"


def test_several_devices_are_predicted_by_the_fit_without_theirs() -> None:
    fit = calibration()
    slower = {name: value - name.startswith("memory|kind:") for name, value in fit.coefficients.items()}
    slow = fit.model_copy(update={"coefficients": slower})
    line = row("V100-SXM2-16GB", 4)
    assert step_s(line, slow) > 1.1 * step_s(line, fit)


def test_gradients_in_parts_are_exchanged_after_every_pass() -> None:
    """A copy of the whole model exchanges them once a step."""
    parts, whole = (
        step_s(row("A100-SXM4-40GB", 16, 2, strategy, "1 Gbps;grad_accum=4")) for strategy in (ZERO_2, "ddp")
    )
    assert parts > 1.5 * whole


def test_several_machines_without_a_stated_network_have_the_usual_one() -> None:
    usual, stated, slow = (
        step_s(row("A100-SXM4-40GB", 4, 2, notes=notes)) for notes in ("", "400 Gbps", "1 Gbps")
    )
    assert usual == stated, "two of a machine's devices at 200 Gbit/s each"
    assert slow > usual
    with pytest.raises(UnknownNameError, match="NoSuch-1GB"):
        plan_of(row("NoSuch-1GB", 4, 2), WORK)
