"""What a script is given before launch, where one process of it runs on a CPU."""

from __future__ import annotations

import os

import pytest
import torch
from torch import distributed

from trainfare.job.fit_call import Recorder
from trainfare.script.one_process import run_as_one_process


def test_launchers_variables_and_process_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script for torchrun reads its rank and makes its process group; one that asks first sees that there is none."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with run_as_one_process(Recorder(lambda call: None)):
        assert os.environ["LOCAL_RANK"] == "0"
        assert (os.environ.get("RANK"), "WORLD_SIZE" in os.environ) == (None, False)
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl")
        assert (distributed.get_rank(), distributed.get_world_size()) == (0, 1)
        distributed.destroy_process_group()
        with pytest.raises(KeyError):
            os.environ["NOT_SET_ANYWHERE"]
    with pytest.raises(KeyError):
        os.environ["LOCAL_RANK"]
