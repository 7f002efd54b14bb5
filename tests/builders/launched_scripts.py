"""Scripts of each framework, whose batch follows the devices or is fixed with a number of them."""

from __future__ import annotations

ROWS, VALIDATED, SIZE = 1_003, 203, 16
LIGHTNING = f"""
import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 4)
    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def validation_step(self, batch, index):
        pass
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def rows(count, size={SIZE}, **how):
    return DataLoader(TensorDataset(torch.zeros(count, 8), torch.zeros(count, dtype=torch.long)), size, **how)

class Stream(IterableDataset):
    def __len__(self):
        return {ROWS}
    def __iter__(self):
        return ((torch.zeros(8), torch.tensor(0)) for _ in range({ROWS}))
"""
FIT = "pl.Trainer(devices={devices}, {options}).fit(Net(), {loader}, rows({validated}))\n"
LOOP = f"""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
data = TensorDataset(torch.zeros({ROWS}, 8), torch.zeros({ROWS}, dtype=torch.long))
model, loader = nn.Linear(8, 4), DataLoader(data, {SIZE})
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
{{set_up}}
for epoch in range(6):
    for features, classes in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(features), classes)
        {{backward}}
        optimizer.step()
"""
ACCELERATE = (
    (
        "from accelerate import Accelerator\naccelerator = Accelerator()\n"
        "model, optimizer, loader = accelerator.prepare(model, optimizer, loader)"
    ),
    "accelerator.backward(loss)",
)
FABRIC = (
    (
        "from lightning.fabric import Fabric\nfabric = Fabric(devices={devices})\n"
        "model, optimizer = fabric.setup(model, optimizer)\nloader = fabric.setup_dataloaders(loader)"
    ),
    "fabric.backward(loss)",
)
HUGGING_FACE = f"""
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
model = BertForSequenceClassification(BertConfig(
    hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=10))
data = [{{"input_ids": torch.zeros(4, dtype=torch.long), "labels": torch.tensor(0)}}] * {ROWS}
arguments = TrainingArguments(
    "out", per_device_train_batch_size={SIZE}, gradient_accumulation_steps=2, report_to="none", use_cpu=True, %s)
Trainer(model, arguments, train_dataset=data, eval_dataset=data[:{VALIDATED}]).train()
"""
DDP = (
    (
        "from torch.nn.parallel import DistributedDataParallel\n"
        "from torch.utils.data import DistributedSampler\n"
        "torch.distributed.init_process_group('gloo')\n"
        "model = DistributedDataParallel(model)\n"
        f"loader = DataLoader(data, {SIZE}, sampler=DistributedSampler(data))"
    ),
    "loss.backward()",
)
