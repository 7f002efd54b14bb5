"""
Load a task with SkyPilot, validate its machines and let SkyPilot's optimizer choose; print what it says as JSON.

    python tests/export_clients/ask_skypilot.py TASK.yml [HOURS.json]

It runs with SkyPilot's own interpreter and a HOME that has a catalogue, without network or credentials. HOURS.json has the
hours of a run by instance type, for the questions COST and TIME over the machines of the task.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import sky
import sky.check
from sky import clouds, dag, optimizer
from sky.utils.common import OptimizeTarget


def optimize(task: Any, minimize: Any = OptimizeTarget.COST) -> Any:
    whole = dag.Dag()
    whole.add(task)
    optimizer.Optimizer.optimize(whole, minimize=minimize, quiet=True)
    return task.best_resources


def main(task_file: str, hours_file: str = "") -> None:
    enabled = [clouds.AWS(), clouds.Azure(), clouds.GCP(), clouds.Lambda(), clouds.RunPod()]
    sky.check.get_cached_enabled_clouds_or_refresh = lambda *_, **__: enabled
    task = sky.Task.from_yaml(task_file)
    for resources in task.resources:
        resources.validate()
    best = optimize(task)
    said = {
        "chosen": best.instance_type, "region": best.region, "spot": best.use_spot, "nodes": task.num_nodes,
        "usd_per_hour": best.get_cost(3600) * task.num_nodes, "envs": task.envs, "labels": best.labels,
        "tried": [resources.instance_type for resources in task.resources],
        "recovery": best.job_recovery, "run": task.run, "tier": str(best.network_tier),
        "accelerators": best.accelerators, "accelerator_args": best.accelerator_args,
    }  # fmt: skip
    if hours_file:
        hours = json.loads(Path(hours_file).read_text())
        for name, target in (("cheapest", "COST"), ("fastest", "TIME")):
            again = sky.Task.from_yaml(task_file)
            again.set_resources(set(again.resources))
            again.set_time_estimator(lambda resources: 3600 * hours[resources.instance_type])
            said[name] = optimize(again, OptimizeTarget[target]).instance_type
    print("SAID " + json.dumps(said, default=str))


main(*sys.argv[1:])
