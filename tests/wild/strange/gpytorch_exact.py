"""An exact Gaussian process of gpytorch: one batch, lazily evaluated matrices, a Cholesky decomposition in the loss."""

import gpytorch
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader


class Process(gpytorch.models.ExactGP):
    def __init__(self, source, target, likelihood):
        super().__init__(source, target, likelihood)
        self.mean = gpytorch.means.ConstantMean()
        self.kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=3))

    def forward(self, source):
        return gpytorch.distributions.MultivariateNormal(self.mean(source), self.kernel(source))


class Regression(pl.LightningModule):
    def __init__(self, source, target):
        super().__init__()
        self.likelihood = gpytorch.likelihoods.GaussianLikelihood()
        self.model = Process(source, target, self.likelihood)
        self.objective = gpytorch.mlls.ExactMarginalLogLikelihood(self.likelihood, self.model)

    def training_step(self, batch, batch_idx):
        source, target = batch
        return -self.objective(self.model(source), target)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


pl.seed_everything(1)
source, target = torch.rand(40, 3), torch.rand(40)
trainer = pl.Trainer(max_epochs=16, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Regression(source, target), DataLoader([(source, target)], batch_size=None))
