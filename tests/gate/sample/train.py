"""A job small enough to be traced in a test of the gate."""

import sys

import pytorch_lightning as pl
import torch
from sizes import MAX_STEPS

from trainfare import TrainingJob

# What the code of a job prints must be no command to the runner of a CI system.
print("::error title=injected::printed by the job", file=sys.stderr)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Linear(64, 64), torch.nn.Linear(64, 2)

    def training_step(self, batch, batch_idx):
        return self.head(self.body(batch)).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def job():
    batch = lambda: torch.zeros(32, 64)  # noqa: E731
    return TrainingJob(module=Net, batch=batch, batch_size=32, max_steps=MAX_STEPS)
