"""Weights that a script moves itself, or by an optimizer that is none of torch: priced, or left with the reason; never trained to the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.scripts import load_script, measure_script
from trainfare.fake_step import trace_job
from trainfare.plain_loop.backward_watch import MOST_PASSES, MOST_S, BackwardWatch
from trainfare_core.errors import TargetError
from trainfare_core.job_profile import JobProfile

HEAD = """
import pathlib, torch
from torch import nn
from torch.utils.data import DataLoader
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
steps = []
def note_step():
    steps.append(1)
    pathlib.Path("steps").write_text(str(len(steps)))
"""
DATA = """
for batch in DataLoader(torch.randn(400, 8), batch_size=4):
    model.zero_grad()
    model(batch).square().mean().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    for p in model.parameters():
        p.data.add_(p.grad, alpha=-0.1)
    note_step()
"""
RETURNED = """
for number in range(100):
    loss = model(torch.randn(4, 8)).square().mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for p, gradient in zip(model.parameters(), gradients):
            p -= 0.1 * gradient
    note_step()
"""
ACCUMULATED = """
for number in range(100):
    for _ in range(3):
        model(torch.randn(4, 8)).square().mean().backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
            p.grad = None
    note_step()
"""
LIBRARY = """
class Momentum:
    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.kept = [torch.zeros_like(p) for p in self.parameters]
    def step(self):
        with torch.no_grad():
            for p, kept in zip(self.parameters, self.kept):
                kept.mul_(0.9).add_(p.grad)
                p.sub_(kept, alpha=0.1)
optimizer = Momentum(model.parameters())
for batch in DataLoader(torch.randn(400, 8), batch_size=4):
    model.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()
    note_step()
"""
FUNCTIONAL = """
from torch.func import functional_call, grad
weights = {name: p.detach() for name, p in model.named_parameters()}
def loss_of(weights, batch):
    return functional_call(model, weights, (batch,)).square().mean()
for number in range(100):
    gradients = grad(loss_of)(weights, torch.randn(4, 8))
    weights = {name: value - 0.1 * gradients[name] for name, value in weights.items()}
    note_step()
"""
NO_MODULE = """
weight = torch.randn(8, 2, requires_grad=True)
for number in range(100):
    (torch.randn(4, 8) @ weight).square().mean().backward()
    with torch.no_grad():
        weight -= 0.1 * weight.grad
        weight.grad.zero_()
    note_step()
"""
FORWARD_FORWARD = """
class Layer(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.optimizer = torch.optim.Adam(self.parameters())
    def train_layer(self, batch):
        for _ in range(3):
            self.optimizer.zero_grad()
            self.forward(batch).square().mean().backward()
            self.optimizer.step()
            note_step()
        return self.forward(batch).detach()
batch = next(iter(DataLoader(torch.randn(64, 8), batch_size=64)))
for layer in [Layer(8, 16), Layer(16, 16)]:
    batch = layer.train_layer(batch)
"""
END = "pathlib.Path('after').touch()\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def count_products(profile: JobProfile) -> dict[str, int]:
    return {
        phase: sum(group.flops for group in profile.operations if group.phase == phase)
        for phase in ("forward", "backward")
    }


@pytest.mark.parametrize(
    ("text", "passes"),
    [(DATA, 1), (RETURNED, 1), (ACCUMULATED, 3), (LIBRARY, 1)],
    ids=["data", "returned", "accumulated", "library"],
)
def test_a_step_by_hand_is_priced(folder: Path, text: str, passes: int) -> None:
    """FLOPs by arithmetic, the update counts as one, and few steps are made."""
    profile = trace_job(load_script(HEAD + text + END))
    products = 2 * 4 * (8 * 16 + 16 * 2) * passes
    # Of the backward, the first layer needs no gradient of the batch.
    assert count_products(profile) == {
        "forward": products,
        "backward": 2 * products - 2 * 4 * 8 * 16 * passes,
    }
    assert any(group.phase == "optimizer" for group in profile.operations)
    assert (profile.batch.micro_batch_size, profile.parallel.accumulate_grad_batches) == (4, passes)
    assert any("moved by no optimizer of torch" in note for note in profile.notes)
    assert int((folder / "steps").read_text()) <= 6
    assert not (folder / "after").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FUNCTIONAL, rf"the backward pass at train.py:\d+ in <module>: in {MOST_PASSES} backward passes no optimizer"),
        (NO_MODULE, r"weights moved by hand after the .* at train.py:\d+ in <module>: no torch.nn.Module has these"),
        (FORWARD_FORWARD, r"Adam.step at train.py:\d+ in train_layer: between two steps of it, no DataLoader"),
    ],
    ids=["functional", "no_module", "forward_forward"],
)  # fmt: skip
@pytest.mark.parametrize("measures", [False, True], ids=["before_launch", "probe"])
def test_what_is_not_understood_is_left_with_the_reason(
    folder: Path, text: str, message: str, measures: bool
) -> None:
    with pytest.raises(TargetError, match=message):
        (measure_script if measures else load_script)(HEAD + text + END)
    assert int((folder / "steps").read_text()) <= MOST_PASSES
    assert not (folder / "after").exists()


def test_passes_inside_a_step_are_no_steps_by_hand(folder: Path) -> None:
    text = """
optimizer, batch = torch.optim.LBFGS(model.parameters(), max_iter=4), torch.randn(64, 8)
def closure():
    optimizer.zero_grad()
    loss = model(batch).square().mean()
    loss.backward()
    return loss
for number in range(100):
    optimizer.step(closure)
    note_step()
"""
    with pytest.raises(TargetError, match=r"LBFGS.step at train.py:\d+ in <module>: between two steps of it"):
        load_script(HEAD + text + END)
    assert int((folder / "steps").read_text()) <= 2
    assert not (folder / "after").exists()


def test_a_step_by_hand_is_measured_and_left(folder: Path) -> None:
    profile = measure_script(HEAD + DATA + END, steps=3)
    assert profile is not None
    assert profile.measured is not None
    assert (profile.measured.steps, profile.source.loop) == (3, "plain")
    assert profile.measured.optimizer is not None
    assert int((folder / "steps").read_text()) <= 12
    assert not (folder / "after").exists()


def test_weights_are_the_same_as_without_a_meter(folder: Path) -> None:
    """What is looked at after a backward pass changes neither weights nor random state."""
    text = HEAD + DATA.replace(
        "    note_step()",
        "    note_step()\n    pathlib.Path(f'seen-{len(steps)}').write_text("
        "str([p.double().sum().item() for p in model.parameters()] + torch.get_rng_state()[:64].tolist()))",
    )
    load_script(text)
    (last,) = sorted(folder.glob("seen-*"))[-1:]
    seen = last.read_text()
    exec(compile(text, "train.py", "exec"), {})
    assert last.read_text() == seen


def test_a_script_is_left_after_some_time() -> None:
    """By a clock of its own; with an optimizer that may step yet, many passes are let pass, and as much time."""
    clock = [0.0]
    watch = BackwardWatch(lambda: clock[0], lambda: True)
    weight = torch.ones(3, requires_grad=True)
    for _ in range(MOST_PASSES):
        weight.sum().backward()
        watch.note(None)
    assert not watch.explain_end()
    clock.append(clock.pop() + MOST_S)
    assert watch.explain_end().startswith(f"in {MOST_S:.0f} s no optimizer of torch stepped")


def test_a_view_that_torch_tells_nothing_of_is_no_weight() -> None:
    """A view made under `no_grad`, of a tensor that has changed since, raises on a question: it says nothing of the loop."""
    base = torch.ones(4, requires_grad=True) * 1
    with torch.no_grad():
        view = base[:2]
    base.mul_(2)
    with pytest.raises(RuntimeError, match="view was created in no_grad"):
        view.is_leaf  # noqa: B018
    clock, weight = [0.0], torch.ones(3, requires_grad=True)
    watch = BackwardWatch(lambda: clock[0], lambda: True)
    weight.sum().backward()
    watch.note(None)
    with torch.no_grad():
        weight -= weight.grad
    assert any(moved is weight for moved in watch.find_moved())
