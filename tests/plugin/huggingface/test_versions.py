"""Trainers of older transformers, which count their length themselves or take other arguments; by seams, and for real."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from trainfare.huggingface.versions import (
    TrainingLength,
    clip_gradients,
    count_batch,
    count_training,
    read_training,
    set_intervals,
    take_batches,
    validates_at_end,
)


class OldTrainer:
    """As of transformers 4.46: with none of the methods that later ones have."""

    _train_batch_size = 4

    def __init__(self, **arguments: Any) -> None:
        given = {"max_steps": -1, "num_train_epochs": 3.0, "gradient_accumulation_steps": 4, "world_size": 2}
        self.args: Any = SimpleNamespace(**{**given, **arguments})
        self.state: Any = SimpleNamespace()

    def num_examples(self, loader: Any) -> int:
        return len(loader) * 4

    def get_batch_samples(self, iterator: Any, count: int) -> tuple[list[Any], None]:
        return [next(iterator) for _ in range(count)], None


@pytest.mark.parametrize(
    ("arguments", "batches", "expected"),
    [
        ({}, 10, TrainingLength(3, 40, 10, 6)),  # what is left of an epoch makes no step there
        ({"num_train_epochs": 1.5}, 10, TrainingLength(2, 40, 10, 3)),
        ({"max_steps": 5}, 10, TrainingLength(3, 40, 10, 5)),
        ({}, 3, TrainingLength(3, 12, 3, 3)),
    ],
)
def test_an_old_trainer_counts_as_its_loop_does(
    arguments: dict[str, Any], batches: int, expected: TrainingLength
) -> None:
    """`_inner_training_loop` of 4.46: whole accumulations of an epoch, at least one."""
    assert count_training(OldTrainer(**arguments), range(batches)) == expected


def test_data_without_a_length_need_max_steps() -> None:
    """5 steps of 4 batches of 4 on 2 devices are 160 samples."""
    assert count_training(OldTrainer(max_steps=5), iter(())) == TrainingLength(sys.maxsize, 160, None, 5)
    with pytest.raises(ValueError, match="max_steps"):
        count_training(OldTrainer(), iter(()))


def test_a_trainer_that_counts_is_asked_with_the_arguments_it_takes() -> None:
    """4.49 to 4.57 take the samples of a step, 5 takes them not."""

    class Middle(OldTrainer):
        def set_initial_training_values(self, args: Any, loader: Any, total_train_batch_size: int) -> Any:
            return 3, 2, 40, 120, True, len(loader), total_train_batch_size

    class New(OldTrainer):
        def set_initial_training_values(self, args: Any, loader: Any) -> Any:
            return 3, 2, 40, 120, 32, len(loader), 7

    assert count_training(Middle(), range(10)) == TrainingLength(3, 40, 10, 32)
    assert count_training(New(), range(10)) == TrainingLength(3, 40, 10, 7)
    assert count_batch(OldTrainer()) == 32


def test_an_old_trainers_length_is_read_where_its_loop_keeps_it() -> None:
    """Nothing is counted again: this Trainer has no loader to ask."""

    def run_loop(num_train_epochs: int = 3, num_examples: int = 40, max_steps: int = 6) -> TrainingLength:
        len_dataloader, num_update_steps_per_epoch = 10, 2
        length = read_training(OldTrainer())
        assert (len_dataloader, num_update_steps_per_epoch) == (10, 2)
        return length

    assert run_loop() == TrainingLength(3, 40, 10, 6)


def test_a_loop_that_keeps_its_length_elsewhere_is_counted_by_its_loader() -> None:
    """Also where a caller has a variable of that name, as the scripts of Accelerate have."""
    num_update_steps_per_epoch = 99
    trainer = OldTrainer()
    trainer.callback_handler = SimpleNamespace(train_dataloader=range(10))  # type: ignore[attr-defined]
    assert read_training(trainer) == TrainingLength(3, 40, 10, 6)
    assert num_update_steps_per_epoch == 99


def test_batches_of_a_step_come_by_the_trainer_itself() -> None:
    assert take_batches(OldTrainer(), iter("abcdef"), 4) == (["a", "b", "c", "d"], None)


def test_intervals_may_be_shares_of_the_run() -> None:
    trainer = OldTrainer(logging_steps=0.25, eval_steps=3, save_steps=None)
    set_intervals(trainer, 10)
    assert vars(trainer.state) == {"logging_steps": 3, "eval_steps": 3}


def test_an_old_trainer_clips_only_where_there_is_a_limit() -> None:
    limits: list[float] = []
    for limit in (0.0, None, 1.5):
        trainer = OldTrainer(max_grad_norm=limit)
        trainer.accelerator = SimpleNamespace(clip_grad_norm_=lambda _, most: limits.append(most))  # type: ignore[attr-defined]
        clip_gradients(trainer, nn.Linear(1, 1))
    assert limits == [1.5]


@pytest.mark.parametrize(("version", "expected"), [("4.57.6", False), ("5.3.0", False), ("5.4.0", True)])
def test_the_last_step_is_validated_from_5_4_on(version: str, expected: bool) -> None:
    assert validates_at_end(version) is expected
