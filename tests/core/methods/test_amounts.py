"""How many samples full fine-tuning sees, by what is known of it."""

from __future__ import annotations

import pytest

from trainfare_core.methods.amounts import amount_of
from trainfare_core.methods.question import Question


@pytest.mark.parametrize(
    ("fields", "planned", "samples", "because"),
    [
        ({"domain": "vision-cls", "epochs": 4.0}, 7.0, 40_000.0, "4 epochs, as given"),
        ({"domain": "vision-cls"}, 7.0, 7.0, "the job's own plan"),
        ({"domain": "vision-cls"}, None, 500 * 512.0, "BiT's rule: 500 steps of 512"),
        ({"domain": "llm-ift"}, None, 20_000.0, "2 epochs, where instruction tuning peaks"),
        ({"domain": "llm-cpt"}, None, 10_000.0, "1 epochs, the usual for llm-cpt"),
        ({"domain": "nlp-glue"}, None, 30_000.0, "3 epochs, the usual for nlp-glue"),
    ],
)
def test_what_is_known_decides_before_what_is_usual(
    fields: dict[str, object], planned: float | None, samples: float, because: str
) -> None:
    """Epochs as given, then the job's plan, then the usual for the domain."""
    amount = amount_of(Question.model_validate({"samples": 10_000, **fields}), "full_finetune", planned)
    assert amount is not None
    assert (amount.samples, amount.because) == (samples, because)


def test_without_samples_or_a_plan_there_is_no_amount() -> None:
    assert amount_of(Question(domain="vision-cls"), "full_finetune") is None
