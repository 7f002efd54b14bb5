"""A plan as one POSIX script that runs on each machine, or on all of a Slurm job; and torchrun's words for others."""

from __future__ import annotations

import shlex
from typing import Final

from trainfare.export.facts import list_facts
from trainfare.export.plan import ExportedFiles, PlanToExport
from trainfare_core.recommendation import PREDICTION_VARIABLE

_STOP: Final = (
    "`timeout` sends TERM, two minutes later KILL, and ends with 124; the machine stays yours to give back"
)


def list_torchrun_words(plan: PlanToExport, node_rank: str = "", address: str = "") -> list[str]:
    """
    Return torchrun's options, as a shell reads them.

    Args:
        plan: how many machines and processes.
        node_rank: shell text of this machine's number; only where there are several.
        address: the same of the first machine.
    """
    nodes = plan.option.nodes
    words = [f"--nnodes={nodes}", f"--nproc-per-node={plan.trainer.devices}"]
    if nodes == 1:
        return [*words, "--standalone"]
    return [
        *words,
        f'--node-rank="{node_rank}"',
        f'--master-addr="{address}"',
        "--master-port=29500",  # torch's own choice
    ]


def export_torchrun(plan: PlanToExport) -> ExportedFiles:
    """Return the script."""
    options = list_torchrun_words(
        plan, "${NODE_RANK:-${SLURM_NODEID:?set NODE_RANK to this machine, from 0}}", "$MASTER_ADDR"
    )
    variables = plan.list_variables()
    lines = ["set -eu", f"export {PREDICTION_VARIABLE}={shlex.quote(variables.pop(PREDICTION_VARIABLE))}"]
    # Keep a value that a scheduler such as Slurm, or the user, has set.
    lines += [
        f'[ -n "${{{name}:-}}" ] || export {name}={shlex.quote(value)}'
        for name, value in {**variables, **plan.list_visible()}.items()
    ]
    if plan.option.nodes > 1:
        lines += [
            # On Slurm the first machine of the job; `scontrol` is asked only there.
            'if [ -z "${MASTER_ADDR:-}" ] && [ -n "${SLURM_JOB_NODELIST:-}" ]; then',
            '  MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
            "fi",
            ': "${MASTER_ADDR:?set MASTER_ADDR to the address of machine 0}"',
        ]
    words = ["exec", *plan.list_timeout_words(), '"${PYTHON:-python}" -m torch.distributed.run', *options]
    lines += [f"{' '.join(words)} \\", f"  {shlex.join(plan.list_command_words())}"]
    body = "\n".join(lines)
    how = (
        "Start on every machine, with NODE_RANK (0 is the first) and MASTER_ADDR set, or as `srun "
        "--ntasks-per-node=1 sh FILE`."
        if plan.option.nodes > 1
        else "Start on the machine, in the folder of the script: sh FILE"
    )
    head = "\n".join(f"# {fact}" for fact in list_facts(plan, body, how, stop=_STOP))
    return ExportedFiles(f"#!/bin/sh\n{head}\n{body}\n")
