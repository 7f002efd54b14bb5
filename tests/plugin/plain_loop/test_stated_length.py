"""The length of a loop is read where its script says it; loops in the forms of well-known scripts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from builders.lightning_modules import quiet
from builders.scripts import load_script
from trainfare.fake_step import trace_job
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare_core.job_profile import JobProfile

pytestmark = quiet

HEAD = """
import argparse, itertools, math, torch
from types import SimpleNamespace
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
model = nn.Linear(8, 8)
optimizer = torch.optim.AdamW(model.parameters())
data = torch.randn(160, 8)
train_loader = DataLoader(data, batch_size=4, shuffle=True)  # 40 batches

def compute_loss(batch):
    return model(batch).square().mean()
def train_step(batch):
    compute_loss(batch).backward()
    optimizer.step()
    optimizer.zero_grad()
def get_batch(split):
    return torch.randn(4, 8)
class Stream(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.randn(8)
"""

NANO_GPT = """
max_iters, eval_interval, log_interval, gradient_accumulation_steps = 600, 250, 10, 4
eval_only, init_from, iter_num, best_val_loss, local_iter_num = False, "scratch", 0, 1e9, 0
if init_from == "resume":
    iter_num = torch.load("ckpt.pt")["iter_num"]
raw_model = model
X = get_batch("train")
while True:
    lr = 6e-4
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr
    if iter_num % eval_interval == 0 and iter_num > 0:
        losses = {"val": compute_loss(X).item()}
        if losses["val"] < best_val_loss:
            best_val_loss = losses["val"]
    if iter_num == 0 and eval_only:
        break
    for micro_step in range(gradient_accumulation_steps):
        loss = compute_loss(X) / gradient_accumulation_steps
        X = get_batch("train")
        loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if iter_num % log_interval == 0:
        lossf = loss.item() * gradient_accumulation_steps
    iter_num += 1
    local_iter_num += 1
    if iter_num > max_iters:
        break
"""
MIN_GPT = """
class Trainer:
    def __init__(self, config):
        self.config, self.callbacks, self.iter_num = config, {}, 0
    def trigger_callbacks(self, name):
        for callback in self.callbacks.get(name, []):
            callback(self)
    def run(self):
        config, self.iter_num = self.config, 0
        data_iter = iter(train_loader)
        while True:
            try:
                batch = next(data_iter)
            except StopIteration:
                data_iter = iter(train_loader)
                batch = next(data_iter)
            self.loss = compute_loss(batch)
            model.zero_grad(set_to_none=True)
            self.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            self.trigger_callbacks("on_batch_end")
            self.iter_num += 1
            if config.max_iters is not None and self.iter_num >= config.max_iters:
                break
Trainer(SimpleNamespace(max_iters=750)).run()
"""
MNIST = """
def train(args, epoch):
    model.train()
    for batch_idx, batch in enumerate(train_loader):
        train_step(batch)
        if batch_idx % args.log_interval == 0:
            if args.dry_run:
                break
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--log-interval", type=int, default=10)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args(ARGUMENTS)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)
    for epoch in range(1, args.epochs + 1):
        train(args, epoch)
        scheduler.step()
if __name__ == "__main__":
    main()
"""
MAKE_MORE = """
class InfiniteDataLoader:
    def __init__(self, loader):
        self.loader, self.iterator = loader, iter(loader)
    def next(self):
        try:
            return next(self.iterator)
        except StopIteration:
            self.iterator = iter(self.loader)
            return next(self.iterator)
args = SimpleNamespace(max_steps=MAX_STEPS)
batch_loader, best_loss, step = InfiniteDataLoader(train_loader), None, 0
while True:
    loss = compute_loss(batch_loader.next())
    model.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step > 0 and step % 500 == 0:
        if best_loss is None or loss.item() < best_loss:
            best_loss = loss.item()
    step += 1
    if args.max_steps >= 0 and step >= args.max_steps:
        break
"""
TIMM = """
def train_one_epoch(epoch, args, loss_scaler=None):
    model.train()
    accum_steps = args.grad_accum_steps
    last_accum_steps = len(train_loader) % accum_steps
    updates_per_epoch = (len(train_loader) + accum_steps - 1) // accum_steps
    num_updates = epoch * updates_per_epoch
    last_batch_idx = len(train_loader) - 1
    has_no_sync = hasattr(model, "no_sync")
    for batch_idx, batch in enumerate(train_loader):
        last_batch = batch_idx == last_batch_idx
        need_update = last_batch or (batch_idx + 1) % accum_steps == 0
        update_idx = batch_idx // accum_steps
        def _backward(loss):
            if loss_scaler is not None:
                loss_scaler(loss, optimizer)
            else:
                loss.backward()
                if need_update:
                    optimizer.step()
        if has_no_sync and not need_update:
            with model.no_sync():
                _backward(compute_loss(batch))
        else:
            loss = compute_loss(batch)
            _backward(loss)
        if not need_update:
            continue
        num_updates += 1
        optimizer.zero_grad()
def main():
    args, start_epoch, best_metric = SimpleNamespace(grad_accum_steps=3, epochs=5, patience=2), 0, None
    num_epochs = args.epochs
    try:
        for epoch in range(start_epoch, num_epochs):
            train_one_epoch(epoch, args)
    except KeyboardInterrupt:
        pass
main()
"""
NLP = """
def training_function(config, args):
    num_epochs, gradient_accumulation_steps = int(config["num_epochs"]), 1
    if config["batch_size"] > 16:
        gradient_accumulation_steps = config["batch_size"] // 16
    for epoch in range(num_epochs):
        model.train()
        for step, batch in enumerate(train_loader):
            loss = compute_loss(batch) / gradient_accumulation_steps
            loss.backward()
            if step % gradient_accumulation_steps == 0:
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
training_function({"num_epochs": 3, "batch_size": BATCH}, None)
"""
NO_TRAINER = """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=7)
model, optimizer, train_loader = accelerator.prepare(model, optimizer, train_loader)
args = SimpleNamespace(num_train_epochs=3, max_train_steps=MAX_STEPS, gradient_accumulation_steps=7, with_tracking=False)
num_update_steps_per_epoch = math.ceil(len(train_loader) / args.gradient_accumulation_steps)
if args.max_train_steps is None:
    args.max_train_steps = args.num_train_epochs * num_update_steps_per_epoch
args.num_train_epochs = math.ceil(args.max_train_steps / num_update_steps_per_epoch)
completed_steps, starting_epoch = 0, 0
for epoch in range(starting_epoch, args.num_train_epochs):
    model.train()
    if args.with_tracking:
        total_loss = 0
    active_dataloader = train_loader
    for step, batch in enumerate(active_dataloader):
        with accelerator.accumulate(model):
            loss = compute_loss(batch)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            completed_steps += 1
        if completed_steps >= args.max_train_steps:
            break
"""
FOLDS = """
for fold in range(3):
    model = nn.Linear(8, 8)
    optimizer = torch.optim.AdamW(model.parameters())
    for epoch in range(2):
        for batch in train_loader:
            train_step(batch)
"""
TITAN = """
class Trainer:
    def __init__(self):
        self.step, self.steps = 0, 90
    def batches(self):
        while True:
            yield from train_loader
    def train_step(self, batches):
        optimizer.zero_grad()
        for _ in range(2):
            compute_loss(next(batches)).backward()
        optimizer.step()
    def should_continue_training(self):
        return self.step < self.steps
    def train(self):
        batches = self.batches()
        while {condition}:
            self.step += 1
            self.train_step(batches)
Trainer().train()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def price(text: str) -> JobProfile:
    return trace_job(load_script(HEAD + text))


def price_apart(text: str) -> JobProfile:
    """The same in the process of a command: Accelerate keeps its state in its classes."""
    Path("train.py").write_text(HEAD + text)
    with UserProcess("train.py", ProcessLimits()) as process:
        return process.profile()


GIVEN = """
def run(batch, number, update=True):
    compute_loss(batch).backward()
    if update and number >= 0:
        optimizer.step()
        optimizer.zero_grad()
for number, batch in enumerate(train_loader):
    if number < 10:
        run(batch, number)
    else:
        run(batch, number, update=number % 3 == 0)
"""
LENGTHS = [
    (GIVEN, 20),
    (NANO_GPT, 601),
    (MIN_GPT, 750),
    (MNIST.replace("ARGUMENTS", "[]"), 14 * 40),
    (MNIST.replace("ARGUMENTS", "['--dry-run', '--epochs', '30']"), 30),
    (MAKE_MORE.replace("MAX_STEPS", "120"), 120),
    (TIMM, 5 * 14),
    (NLP.replace("BATCH", "16"), 3 * 40),
    (NLP.replace("BATCH", "48"), 3 * 14),
    (TITAN.format(condition="self.step < self.steps"), 90),
    ("for step in range(300):\n    train_step(get_batch('train'))", 300),
    ("for batch in itertools.islice(train_loader, 25):\n    train_step(batch)", 25),
    ("steps_left = 70\nwhile steps_left > 0:\n    train_step(get_batch(0))\n    steps_left -= 1", 70),
    (
        ("global_step, done = 0, False\nwhile not done:\n    for batch in train_loader:\n        train_step(batch)\n"
        "        global_step += 1\n        if global_step == 130:\n            done = True\n            break"),
        130,
    ),
    (
        ("def run():\n    step = 0\n    while True:\n        for batch in train_loader:\n            if step >= 95:\n"
        "                return\n            train_step(batch)\n            step += 1\nrun()"),
        95,
    ),
    (
        ("count = 0\ndef run():\n    global count\n    for batch in train_loader:\n        train_step(batch)\n        count += 1\n"
        "while count < 100:\n    run()"),
        120,
    ),
    ("try:\n    for epoch in range(4):\n        for x in train_loader:\n            train_step(x)\nexcept KeyboardInterrupt:\n    pass", 160),
    (("for epoch in range(2):\n    for i, batch in enumerate(train_loader, 1):\n        compute_loss(batch).backward()\n"
     "        if i % 16 == 0 or i == len(train_loader):\n            optimizer.step()\n            optimizer.zero_grad()"), 6),
    (("for epoch in range(2):\n    for i, batch in enumerate(train_loader):\n        compute_loss(batch).backward()\n"
     "        if (i + 1) % 16:\n            continue\n        optimizer.step()\n        optimizer.zero_grad()"), 4),
    pytest.param(
        "for epoch in range(3):\n    for x in train_loader: compute_loss(x).backward(); optimizer.step(); optimizer.zero_grad()",
        120,
        marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="Python says of no statement on a line which one runs"),
    ),
]  # fmt: skip


VALIDATES_BY_THE_SAME = """
def run_epoch(loader, training):
    for x in loader:
        if training:
            train_step(x)
        else:
            compute_loss(x)
for epoch in range(3):
    run_epoch(train_loader, True)
    run_epoch(DataLoader(data, batch_size=8), False)
"""
HANDED = """
def validate(x):
    compute_loss(x)
def run_epoch(loader, step):
    for x in loader:
        step(x)
for epoch in range(3):
    run_epoch(train_loader, train_step)
    run_epoch(train_loader, validate)
"""


def test_a_validation_by_the_same_function_is_no_part_of_a_step() -> None:
    """Its rounds are no batches of a step; where the function of the step is handed, how often it runs is not known."""
    profile = price(VALIDATES_BY_THE_SAME)
    assert (profile.plan.optimizer_steps, profile.batch.samples_per_step) == (120, 4)
    handed = price(HANDED).plan
    assert handed.optimizer_steps is None
    assert "is handed cannot be read" in str(handed.unknown_because)


@pytest.mark.parametrize(("text", "steps"), LENGTHS)
def test_the_length_is_read(text: str, steps: int) -> None:
    profile = price(text)
    assert profile.plan.optimizer_steps == steps
    assert profile.plan.steps_note is None
    assert any(note.startswith(f"{steps:,} steps, by the loop") for note in profile.notes)


@pytest.mark.parametrize(("most", "steps"), [("None", 18), ("18", 18), ("8", 8), ("18 + 3", 21)])
def test_accelerate_steps_at_the_end_of_an_epoch(most: str, steps: int) -> None:
    """40 batches in steps of 7 and a last one of 5, until `max_train_steps`."""
    pytest.importorskip("accelerate")
    assert price_apart(NO_TRAINER.replace("MAX_STEPS", most)).plan.optimizer_steps == steps


UP_TO = [
    (
        (
            "for step in range(300):\n    loss = compute_loss(get_batch(0))\n    if not torch.isfinite(loss):\n        continue\n"
            "    loss.backward()\n    optimizer.step()"
        ),
        "a continue at train.py:",
    ),
    (
        "for epoch in range(300):\n    batch = get_batch(0)\n    train_step(batch)\n    if batch.sum() > 1e9:\n        break",
        "a break at train.py:",
    ),
    (
        "step = 0\nfor batch in DataLoader(Stream(), 4):\n    train_step(batch)\n    step += 1\n    if step >= 300:\n        break",
        "the end of the data",
    ),
]


@pytest.mark.parametrize(("text", "by"), UP_TO)
def test_what_may_end_it_earlier_is_named(text: str, by: str) -> None:
    plan = price(text).plan
    assert plan.optimizer_steps == 300
    assert (plan.steps_note or "").startswith(by)
    assert (plan.steps_note or "").endswith(" may end it earlier: an upper bound")


UNKNOWN = [
    (MAKE_MORE.replace("MAX_STEPS", "-1"), "the loop at train.py:.* has no end that can be read"),
    ("for batch in DataLoader(Stream(), 4):\n    train_step(batch)", "goes over has no length that can be read"),
    (TITAN.format(condition="self.should_continue_training()"), "the condition at train.py:.* cannot be read"),
    ("while True:\n    batch = get_batch(0)\n    train_step(batch)\n    if batch.sum() > 1e9:\n        break", "a break at train.py:"),
    (("for step in range(90):\n    batch = get_batch(0)\n    compute_loss(batch).backward()\n    if batch.sum() < 1e9:\n"
     "        optimizer.step()"), "the condition at train.py:.* cannot be read"),
    ("for step in range(9):\n    train_step(get_batch(0))\nfor step in range(90):\n    train_step(get_batch(0))",
     "whether train_step is called at train.py:"),
    ("class State:\n    @property\n    def limit(self):\n        raise ValueError\nstate, step = State(), 0\nwhile step < state.limit:\n"
     "    train_step(get_batch(0))\n    step += 1" .replace("raise ValueError", "return 50"), "the condition at train.py:"),
    ("def count():\n    global step\n    step += 3\nstep = 0\nwhile step < 90:\n    train_step(get_batch(0))\n    step += 1\n    count()",
     "its counters do not go as the loops say"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), UNKNOWN)
def test_what_cannot_be_read_for_certain_is_unknown(text: str, why: str) -> None:
    """With the reason, and the way out."""
    plan = price(text).plan
    assert plan.optimizer_steps is None
    assert re.search(f"{why}.*: give --steps", plan.unknown_because or "")


def test_one_of_several_trainings_is_named() -> None:
    """A loop that makes the optimizer anew; its rounds are no epochs."""
    plan = price(FOLDS).plan
    assert plan.optimizer_steps == 80
    assert plan.steps_note is not None
    assert plan.steps_note.startswith("training 1 of 3 in the loop at train.py:")
    assert plan.steps_note.endswith("the script costs about 3 times this")


def test_nothing_of_the_script_is_called() -> None:
    """A property, a condition and a length of its classes raise where they are asked in vain."""
    text = """
class Limits:
    asked = 0
    @property
    def steps(self):
        Limits.asked += 1
        return 300
    def __bool__(self):
        raise ValueError
limits, step = Limits(), 0
while True:
    train_step(get_batch(0))
    step += 1
    assert Limits.asked == step - 1
    if step >= limits.steps:
        break
"""
    assert "cannot be read" in (price(text).plan.unknown_because or "")
