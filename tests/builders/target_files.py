"""Sources of files with a TARGET, for commands that run as processes of their own."""

from __future__ import annotations

TWO_LAYERS = """
import torch
from trainfare import TrainingJob

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 2)
    def training_step(self, batch, batch_idx):
        return self.head(self.body(batch)).mean()
    def configure_optimizers(self):
        return torch.optim.SGD([each for each in self.parameters() if each.requires_grad], lr=0.1)
"""
"""A module of two linear layers that trains what it is left to train."""
JOB = """
def job(module=Net):
    return TrainingJob(
        module=module, batch=lambda: torch.zeros(4, 8), batch_size=4, max_steps=9, train_samples=36, precision="32-true"
    )
"""
"""The TARGET `job` of `TWO_LAYERS`."""
