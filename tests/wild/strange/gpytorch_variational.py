"""A variational Gaussian process of gpytorch with inducing points, two optimizers: natural gradients and Adam."""

import gpytorch
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Process(gpytorch.models.ApproximateGP):
    def __init__(self):
        points = torch.rand(16, 3)
        spread = gpytorch.variational.NaturalVariationalDistribution(16)
        super().__init__(gpytorch.variational.VariationalStrategy(self, points, spread))
        self.mean = gpytorch.means.ZeroMean()
        self.kernel = gpytorch.kernels.MaternKernel(nu=2.5)

    def forward(self, source):
        return gpytorch.distributions.MultivariateNormal(self.mean(source), self.kernel(source))


class Regression(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.model, self.likelihood = Process(), gpytorch.likelihoods.GaussianLikelihood()
        self.objective = gpytorch.mlls.VariationalELBO(self.likelihood, self.model, num_data=128)

    def training_step(self, batch, batch_idx):
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(-self.objective(self.model(batch[0]), batch[1]))
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self):
        natural = gpytorch.optim.NGD(self.model.variational_parameters(), num_data=128, lr=0.1)
        return [
            natural,
            torch.optim.Adam([*self.model.hyperparameters(), *self.likelihood.parameters()], lr=0.01),
        ]


pl.seed_everything(1)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Regression(), DataLoader(TensorDataset(torch.rand(128, 3), torch.rand(128)), 16))
