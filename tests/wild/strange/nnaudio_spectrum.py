"""A spectrogram of nnAudio whose kernels are trained, in bfloat16 on the processor, in a file of a memory map."""

import lightning.pytorch as pl
import numpy as np
import torch
from nnAudio.features import STFT
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Sounds(Dataset):
    def __init__(self):
        self.sounds = np.memmap("sounds.bin", dtype=np.float32, mode="w+", shape=(64, 1024))
        self.sounds[:] = np.random.default_rng(1).normal(size=(64, 1024))

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.from_numpy(self.sounds[index].copy()), index % 3


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.spectrum = STFT(
            n_fft=64, hop_length=32, output_format="Magnitude", trainable=True, verbose=False
        )
        self.head = nn.Linear(33, 3)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.head(self.spectrum(batch[0]).mean(-1)), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(1)
trainer = pl.Trainer(
    max_epochs=2, precision="bf16-mixed", accelerator="cpu", logger=False, enable_checkpointing=False
)
trainer.fit(Net(), DataLoader(Sounds(), 8))
