"""Energies and forces by PaiNN of SchNetPack, which writes its results into the dict of the batch."""

import typing

import pytorch_lightning as pl
import torch.utils.data.dataloader
from torch.nn.functional import mse_loss

from trainfare import FareMeter

torch.utils.data.dataloader.T_co = typing.TypeVar(
    "T_co", covariant=True
)  # SchNetPack 2.0 takes it from there
import schnetpack  # noqa: E402
from schnetpack.data.loader import _atoms_collate_fn  # noqa: E402


def make_molecule(atoms=5):
    pairs = torch.tensor([(i, j) for i in range(atoms) for j in range(atoms) if i != j])
    return {
        "_n_atoms": torch.tensor([atoms]),
        "_atomic_numbers": torch.randint(1, 9, (atoms,)),
        "_positions": torch.rand(atoms, 3) * 3,
        "_cell": torch.zeros(1, 3, 3),
        "_pbc": torch.zeros(3, dtype=torch.bool),
        "_idx_i": pairs[:, 0],
        "_idx_j": pairs[:, 1],
        "_offsets": torch.zeros(len(pairs), 3),
        "energy": torch.randn(1),
        "forces": torch.randn(atoms, 3),
    }


pl.seed_everything(1)
network = schnetpack.model.NeuralNetworkPotential(
    representation=schnetpack.representation.PaiNN(
        n_atom_basis=16,
        n_interactions=2,
        radial_basis=schnetpack.nn.GaussianRBF(n_rbf=10, cutoff=5.0),
        cutoff_fn=schnetpack.nn.CosineCutoff(5.0),
    ),
    input_modules=[schnetpack.atomistic.PairwiseDistances()],
    output_modules=[
        schnetpack.atomistic.Atomwise(n_in=16, output_key="energy"),
        schnetpack.atomistic.Forces(),
    ],
)
outputs = [
    schnetpack.task.ModelOutput(name, loss_fn=mse_loss, loss_weight=1.0, metrics={})
    for name in ("energy", "forces")
]
task = schnetpack.task.AtomisticTask(network, outputs, optimizer_args={"lr": 1e-3})
loader = torch.utils.data.DataLoader(
    [make_molecule() for _ in range(64)], batch_size=8, collate_fn=_atoms_collate_fn
)
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", inference_mode=False, callbacks=[FareMeter(report_dir=".")]
)
trainer.fit(task, loader)
