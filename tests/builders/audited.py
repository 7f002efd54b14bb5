"""
One process that trains with and without FareMeter and reports the audit events of Python while steps ran.

    python tests/builders/audited.py FOLDER

Prints one line of JSON: for each arm the audit events between the first and the last training step (files, sockets,
processes, threads, imports), calls of torch.cuda.synchronize, and the process-wide state that changed.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MARK = "AUDITED "
WATCHED = (
    "open",
    "os.",
    "socket.",
    "subprocess.",
    "shutil.",
    "tempfile.",
    "import",
    "_thread.",
    "pty.",
    "ctypes.dlopen",
)
EPOCHS = 3


class AuditLog:
    """Counts audit events while `listening`; Python cannot remove an audit hook."""

    def __init__(self) -> None:
        self.listening = False
        self.events: Counter[str] = Counter()
        sys.addaudithook(self.count)
        # Python raises no audit event for a new thread before 3.13.
        start = threading.Thread.start

        def start_arm(thread: threading.Thread) -> None:
            self.count("_thread.start", (type(thread).__name__,))
            start(thread)

        threading.Thread.start = start_arm  # type: ignore[method-assign]

    def count(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.listening and event.startswith(WATCHED):
            self.events[f"{event} {arguments[0] if arguments else ''}"] += 1


def arm(log: AuditLog, callbacks: list[Any], **options: Any) -> dict[str, Any]:
    """Train once; listen from the start of the first training step to the end of the last batch's hooks."""
    import torch

    from builders import contract

    synchronized: list[int] = []
    ended: list[bool] = []
    original = torch.cuda.synchronize
    torch.cuda.synchronize = lambda *_: synchronized.append(1)
    log.events.clear()

    class Listened(contract.Tiny):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            log.listening = not ended
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            # The module's hook comes after those of every callback.
            if self.current_epoch == EPOCHS - 1 and self.trainer.is_last_batch:
                log.listening = False
                ended.append(True)

    before = contract.process_state()
    outcome = contract.fit(callbacks, Listened, max_epochs=EPOCHS, **options)
    after = contract.process_state()
    torch.cuda.synchronize = original
    return {
        "events": dict(log.events),
        "stopped": not log.listening,
        "synchronized": len(synchronized),
        "changed": contract.changes(before, after),
        "status": outcome.status,
        "warned": outcome.warned,
        "steps": outcome.steps,
    }


def main() -> None:
    """Two plain arms, so that lazy imports of others are done, then the metered one with the real services."""
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    import pytorch_lightning as pl

    log = AuditLog()

    class Writes(pl.Callback):
        """What FareMeter must not do: proof that events are counted."""

        def on_train_batch_end(self, *_: Any) -> None:
            with (folder / "written").open("a") as file:
                file.write("a line")

    shared = sys.modules["lightning_utilities.core.rank_zero"]
    before = {"log": shared.log.name, "root": (list(logging.root.handlers), logging.root.level)}
    from builders.patient_meter import PatientMeter

    # On a slow machine the run may last as long as its file of status is left alone, once in five seconds.
    PatientMeter.services = replace(PatientMeter.services, update_every_s=math.inf)
    after = {"log": shared.log.name, "root": (list(logging.root.handlers), logging.root.level)}
    arms: dict[str, Any] = {"import": [repr(before), repr(after)]}
    from builders import contract  # noqa: F401 - before any arm, as it sets log levels

    arms |= {"warm_up": arm(log, []), "plain": arm(log, []), "writes": arm(log, [Writes()])}
    meter = PatientMeter(
        warmup_steps=2,
        measure_steps=4,
        report_dir=str(folder),
        machine="aws:p4d.24xlarge@us-east-1",
        budget_usd=1e-9,
        deadline_hours=1e-9,
    )
    arms["metered"] = arm(log, [meter])
    arms["mixed_plain"] = arm(log, [], precision="bf16-mixed")
    arms["mixed"] = arm(
        log, [PatientMeter(warmup_steps=2, measure_steps=4, report_dir=str(folder))], precision="bf16-mixed"
    )
    print(MARK + json.dumps(arms))


if __name__ == "__main__":
    main()
