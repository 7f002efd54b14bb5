"""How many processes and machines train together, by what the launcher says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainfare.job.processes import count_nodes, find_processes, read_precision


def test_one_process_is_the_first_of_one_on_one_machine() -> None:
    assert find_processes() == (0, 1, 1)


@pytest.mark.parametrize(("local", "nodes"), [("4", 2), ("8", 1), ("16", 1), ("0", 1), ("", 1), ("two", 1)])
def test_machines_are_counted_by_the_processes_of_one(
    local: str, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert count_nodes(8) == nodes


def test_weights_of_one_short_type_leave_autocast_nothing_to_cast() -> None:
    layer = nn.Linear(2, 2)
    assert read_precision(layer, "bf16-mixed") == "bf16-mixed"
    assert read_precision(layer.to(torch.bfloat16), "16-mixed") == "bf16-true"
    layer.bias.data = layer.bias.data.float()
    assert read_precision(layer, "16-mixed") == "16-mixed"
