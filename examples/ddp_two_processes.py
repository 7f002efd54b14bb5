"""
Two processes on one CPU with DistributedDataParallel over gloo: every rank is metered, only rank 0 writes reports.

    python examples/ddp_two_processes.py
"""

from __future__ import annotations

import pytorch_lightning as pl
from image_classifier import ImageClassifier, loaders
from pytorch_lightning.strategies import DDPStrategy

from trainfare import FareMeter


def main(report_dir: str = ".") -> None:
    """Train one epoch on two gloo processes; Lightning starts the second one."""
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=report_dir,
        callbacks=[FareMeter(report_dir=report_dir)],
    )
    trainer.fit(ImageClassifier(), *loaders())


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
