"""Rows of MLPerf's result logs, as time_to_train.csv has them: eight A100 of one machine, figures of our own."""

from __future__ import annotations


def submission(**changes: str) -> dict[str, str]:
    """Return a row with some of its columns changed."""
    row = {
        "benchmark": "resnet", "accelerator": "A100-SXM-80GB", "accelerators_total": "8", "nodes": "1",
        "host_networking": "", "interconnect": "", "round": "v2.0", "framework": "PyTorch",
        "global_batch_size": "1024", "precision": "FP16 mixed", "grad_accum_steps": "1",
        "samples_to_converge": "40000000", "eval_time_fraction": "0.0", "init_min_before_clock": "",
        "time_to_train_min": "30", "source": "own figures: no measured run",
    }  # fmt: skip
    return {**row, **changes}
