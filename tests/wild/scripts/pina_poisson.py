"""A physics-informed network of PINA: second derivatives, and labelled tensors made by the constructor of torch.Tensor."""

import torch
from pina import Trainer
from pina.model import FeedForward
from pina.problem.zoo import Poisson2DSquareProblem
from pina.solver import PhysicsInformedSingleModelSolver

from trainfare import FareMeter

torch.manual_seed(1)
problem = Poisson2DSquareProblem()
problem.discretise_domain(40, "random")
model = FeedForward(input_dimensions=2, output_dimensions=1, inner_size=16, n_layers=2, func=torch.nn.Tanh)
solver = PhysicsInformedSingleModelSolver(problem=problem, model=model)
trainer = Trainer(solver, max_epochs=20, accelerator="cpu", callbacks=[FareMeter(report_dir=".")])
trainer.train()
