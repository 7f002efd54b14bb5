"""Of which trainings nothing is predicted, and that the reason is said."""

from __future__ import annotations

import pytest

from trainfare_core.batch_scaling import NotPredicted, explain_not_predicted, find_not_predicted


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["GRPOTrainer", "Qwen2ForCausalLM"], "reinforcement"),
        (["PPOTrainer"], "reinforcement"),
        (["OnlineDPOTrainer"], "reinforcement"),
        (["ppo_loss", "mse_loss"], "reinforcement"),
        (["SAC"], "reinforcement"),
        (["NTXentLoss"], "contrastive"),
        (["info_nce_loss", "cross_entropy"], "contrastive"),
        (["CLIPModel"], "contrastive"),
        (["SimCLR", "CrossEntropyLoss"], "contrastive"),
        (["SupConLoss"], "contrastive"),
        (["MultipleNegativesRankingLoss"], "contrastive"),
        (["TripletMarginLoss"], "contrastive"),
        (["ClipLoss"], "contrastive"),
        (["MyLoss"], "unknown_loss"),
        (["DPOTrainer"], "unknown_loss"),
        ([], "unknown_loss"),
        (["CrossEntropyLoss", "ResNet"], None),
        (["cross_entropy"], None),
        (["MSELoss"], None),
        (["mse_loss"], None),
        (["SmoothL1Loss"], None),
        (["binary_cross_entropy_with_logits"], None),
        (["BCEWithLogitsLoss"], None),
        (["sparse_categorical_crossentropy"], None),
        (["SparseCategoricalCrossentropy"], None),
        (["mse"], None),
        (["Trainer", "LlamaForCausalLM"], None),
        (["GPT2LMHeadModel"], None),
        (["Dinov2ForImageClassification"], None),
        (["SiglipForImageClassification"], None),
        (["CLIPForImageClassification"], None),
        (["LlamaForCausalLM", "ExponentialLR", "opportunity"], None),
    ],
)
def test_the_reason_is_found_from_names(names: list[str], reason: NotPredicted | None) -> None:
    assert find_not_predicted(names) == reason


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("reinforcement", "reinforcement learning"),
        ("contrastive", "contrastive loss"),
        ("unknown_loss", "loss is not known"),
    ],
)
def test_the_reason_is_said_without_a_figure(reason: NotPredicted, words: str) -> None:
    text = explain_not_predicted(reason)
    assert text.startswith("not predicted: ")
    assert words in text
    assert not any(character.isdigit() for character in text)
