"""A script with a loop of its own is stopped a few steps after its N-th and priced as it would be with a meter in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders.lightning_modules import MeterHarness
from builders.lightning_modules import quiet as lightning_quiet
from builders.process_groups import end_process_group
from builders.scripts import load_script
from trainfare import FareMeter
from trainfare.fake_step import trace_job
from trainfare.job.made_up_data import MadeUpData
from trainfare.user_process import ProcessLimits, UserProcess
from trainfare_core.errors import TargetError, TraceError
from trainfare_core.job_profile import JobProfile

HEAD = """
import pathlib, torch
from torch import nn
from torch.utils.data import DataLoader
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters())
loader = DataLoader(torch.randn(128, 8), batch_size=4)
steps = []
def note_step():
    steps.append(1)
    pathlib.Path("steps").write_text(str(len(steps)))
"""
ACCUMULATED = """
def train(meter):
    for epoch in range(4):
        model.train()
        for number, batch in enumerate(meter.steps(loader), 1):
            (model(batch).square().mean() / 4).backward()
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
                note_step()
        model.eval()
        with torch.no_grad():
            for batch in DataLoader(torch.randn(60, 8), batch_size=6):
                model(batch)
"""
SHORT = """
loader = DataLoader(torch.randn(18, 8), batch_size=4)  # the last of five batches has two samples
""" + ACCUMULATED.replace("/ 4", "/ 1").replace("% 4", "% 1")
GAN = """
maker, critic = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 8)), nn.Linear(8, 1)
model = [maker, critic]
of_critic, of_maker = torch.optim.Adam(critic.parameters()), torch.optim.Adam(maker.parameters())
optimizer = [of_maker, of_critic]
def train(meter):
    for epoch in range(4):
        for batch in meter.steps(loader):
            of_critic.zero_grad()
            critic(batch).mean().backward()
            with torch.no_grad():
                made = maker(torch.randn(4, 3))
            (-critic(made).mean()).backward()
            of_critic.step()
            of_maker.zero_grad()
            critic(maker(torch.randn(4, 3))).mean().backward()
            of_maker.step()
            note_step()
"""
FABRIC = """
from lightning.fabric import Fabric
fabric = Fabric({devices})
model, optimizer = fabric.setup(model, optimizer)
loader = fabric.setup_dataloaders(loader)
def train(meter):
    for epoch in range(4):
        for batch in meter.steps(loader):
            optimizer.zero_grad()
            fabric.backward(model(batch).square().mean())
            optimizer.step()
            note_step()
"""
ACCELERATE = """
from accelerate import Accelerator
codebook = nn.Linear(2, 2)
prepares = torch.optim.SGD(codebook.parameters())
for _ in range(5):
    codebook(torch.ones(1, 2)).sum().backward()
    prepares.step()
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
def train(meter):
    for epoch in range(4):
        for batch in meter.steps(loader):
            with accelerator.accumulate(model):
                accelerator.backward(model(batch).square().mean())
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                note_step()
"""
TITAN = """
class Trainer:
    def __init__(self, meter):
        self.meter, self.step = meter, 0
        self.schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))]
    def batches(self):
        while True:
            for batch in self.meter.steps(loader):
                yield batch, {"weight": torch.ones(len(batch), 1)}
    def forward_backward(self, batch, weight):
        loss = (model(batch) * weight).square().mean() / 2
        loss.backward()
        return loss.detach()
    def train_step(self, data):
        optimizer.zero_grad()
        losses = []
        for _ in range(2):
            batch, more = next(data)
            losses.append(self.forward_backward(batch, **more))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        for scheduler in self.schedulers:
            scheduler.step()
        note_step()
    def train(self):
        data = self.batches()
        while self.step < 40:
            self.step += 1
            self.train_step(data)
def train(meter):
    Trainer(meter).train()
"""
GPT = """
def get_batch():
    return torch.randn(4, 8)
def estimate_loss():
    model.eval()
    with torch.no_grad():
        for _ in range(3):
            model(get_batch())
    model.train()
context = torch.amp.autocast(device_type={device!r}, dtype=torch.bfloat16)
scaler = torch.amp.GradScaler("cuda", enabled=False)
def train(meter):
    for number in range(40):
        if number in (0, 2, 5):
            estimate_loss()
        for _ in range(3):
            with context:
                loss = model(get_batch()).float().square().mean() / 3
            scaler.scale(loss).backward()
            if _ < 2:
                meter.step()
        scaler.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
        note_step()
        meter.step()
"""
CLOSURE = """
def train(meter):
    for batch in meter.steps(loader):
        def closure():
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            return loss
        optimizer.step(closure)
        note_step()
"""
UNEQUAL = """
def train(meter):
    for number in range(40):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        model(torch.randn(12, 8)).square().mean().backward()
        optimizer.step()
        note_step()
        meter.step()
"""
STUB = """
class Meter:
    steps, step = staticmethod(lambda loader: loader), staticmethod(lambda: None)
train(Meter)
pathlib.Path("after").touch()
"""

pytestmark = [
    *lightning_quiet,
    pytest.mark.filterwarnings("ignore:CUDA is not available"),
    pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def price(text: str, *, optimizer_step: int = 1) -> JobProfile:
    """Return the profile of a script before launch."""
    # By default it is the first step unless the code calls `fit`, as that of other tests in this process does.
    return trace_job(load_script(HEAD + text + STUB, optimizer_step=optimizer_step))


def price_apart(text: str) -> JobProfile:
    """The same in the process of a command."""
    Path("train.py").write_text(HEAD + text + STUB)
    with UserProcess("train.py", ProcessLimits(sandbox=("none",))) as process:  # it writes how far it came
        return process.profile()


def measure(text: str) -> JobProfile:
    """Return the profile of the same loop with a meter in it, which ran to its end."""
    harness, names = MeterHarness(), dict[str, Any]()
    door = type("FareMeter", (FareMeter,), {"services": harness.services})
    exec(compile(HEAD + text, "measured.py", "exec"), names)
    settings: dict[str, Any] = {"warmup_steps": 1, "measure_steps": 3, "report_dir": "."}
    settings |= {} if "steps(loader)" in text else {"batch_size": 4}
    with door.loop(names["model"], names["optimizer"], **settings) as meter:
        names["train"](meter)
    return harness.profile


def count_flops(profile: JobProfile) -> dict[tuple[str, str, str], float]:
    flops: dict[tuple[str, str, str], float] = {}
    for group in profile.operations:
        key = group.phase, group.kind, group.dtype
        flops[key] = flops.get(key, 0.0) + group.flops
    return {key: value for key, value in flops.items() if value}


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (ACCUMULATED, None),  # of `meter.steps(...)` nothing says how many batches it gives
        (GAN, None),
        (FABRIC.format(devices="accelerator='cpu', devices=1"), None),
        (ACCELERATE, None),
        (TITAN, 40),
        (GPT.format(device="cpu"), 40),
        (UNEQUAL, 40),
        (CLOSURE, None),
    ],
    ids=["accumulated", "gan", "fabric", "accelerate", "titan", "gpt", "unequal", "closure"],
)
def test_the_step_is_that_of_the_metered_run(folder: Path, text: str, stated: int | None) -> None:
    """FLOPs to the digit, weights, optimizer, memory and batch; the script is stopped after a few steps."""
    if "accelerate" in text:
        pytest.importorskip("accelerate")
    ours = (price_apart if "accelerate" in text else price)(text)
    assert int((folder / "steps").read_text()) <= 4
    assert not (folder / "trainfare-status.json").exists()  # that of a run which trains there
    assert not (folder / "after").exists()
    theirs = measure(text)
    assert count_flops(ours) == count_flops(theirs)
    assert sum(count_flops(ours).values()) > 0
    assert (ours.name, ours.precision, ours.parallel) == (theirs.name, theirs.precision, theirs.parallel)
    assert ours.parameters == theirs.parameters
    assert ours.optimizer.state_bytes == theirs.optimizer.state_bytes
    # Without a loader, the batch was made before the traced pass of it.
    saved = theirs.memory.saved_activation_bytes - ours.memory.saved_activation_bytes
    assert saved in (0, ours.memory.input_bytes)
    # Whether the number of devices is Fabric's or the launcher's is not known of a run.
    scales = ours.batch.scales if "accelerate" in text else None
    assert ours.batch.model_copy(update={"scales": scales, "loader_time": None}) == theirs.batch
    assert ours.measured is None
    assert ours.plan.optimizer_steps == stated
    assert stated or "give --steps" in (ours.plan.unknown_because or "")


def test_a_shorter_last_batch_of_a_pass_is_no_other_step(folder: Path) -> None:
    """FLOPs and samples are those of a whole batch, also where Accelerate reads a batch ahead of the loop."""
    pytest.importorskip("accelerate")
    ahead = SHORT.replace(
        "def train",
        "from accelerate import Accelerator\nloader = Accelerator(cpu=True).prepare(loader)\ndef train",
    )
    for profile in (price(SHORT), price_apart(ahead)):
        assert count_flops(profile)["forward", "matmul", "fp32"] == 2 * 4 * (8 * 16 + 16 * 2)
        assert profile.batch.micro_batch_size == 4
        assert profile.batch.variation is None


def test_devices_and_precision_are_those_that_fabric_was_asked_for() -> None:
    """8 GPUs of DDP in bf16 on a machine without one; the world that a script runs in has one process."""
    asked = "accelerator='cuda', devices=4, num_nodes=2, strategy='ddp', precision='bf16-mixed'"
    profile = price(FABRIC.format(devices=asked))
    parallel = profile.parallel
    assert (parallel.strategy, parallel.devices, parallel.num_nodes) == ("ddp", 4, 2)
    assert (profile.precision, profile.batch.micro_batch_size) == ("bf16-mixed", 4)
    assert {key[2] for key in count_flops(profile)} == {"bf16"}
    assumed = price(FABRIC.format(devices="devices='auto'")).notes
    assert "Fabric(devices='auto'): each device of the machine gets this batch" in assumed


def test_autocast_of_a_gpu_is_counted_on_a_machine_without_one() -> None:
    """As on a machine with one: the products in 16 bits, as many FLOPs."""
    without, within = price(GPT.format(device="cpu")), price(GPT.format(device="cuda"))
    assert (within.precision, count_flops(within)) == ("bf16-mixed", count_flops(without))


def test_devices_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORLD_SIZE, and DDP around the model; without that nothing says how the processes share the work."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    wrapped = (
        "torch.distributed.init_process_group('nccl')\nmodel = nn.parallel.DistributedDataParallel(model)\n"
    )
    try:
        profile = price(wrapped + ACCUMULATED)
    finally:
        end_process_group()
    parallel = profile.parallel
    assert (parallel.strategy, parallel.devices, parallel.num_nodes) == ("ddp", 4, 2)
    assert profile.batch.samples_per_step == 16
    with pytest.raises(TraceError, match="8 processes train, and nothing around the model says"):
        price(ACCUMULATED)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_a_compiled_model_is_traced_eagerly() -> None:
    """And the profile says so; FLOPs are those of the model."""
    profile = price("model = torch.compile(model)\n" + ACCUMULATED)
    assert profile.source.compiled
    assert any("the trace is eager" in note for note in profile.notes)
    assert count_flops(profile) == count_flops(price(ACCUMULATED))


def test_a_warm_up_is_let_pass(folder: Path) -> None:
    """`--optimizer-step 3`: two steps of another model come before, and are no part of the step."""
    warm = """
codebook = nn.Linear(100, 100)
warms = torch.optim.SGD(codebook.parameters())
for _ in range(2):
    codebook(torch.ones(1, 100)).sum().backward()
    warms.step()
"""
    profile = price(warm + ACCUMULATED, optimizer_step=3)
    assert count_flops(profile) == count_flops(price(ACCUMULATED))
    assert profile.parameters == price(ACCUMULATED).parameters


def test_a_meter_of_the_script_gives_the_length() -> None:
    """`FareMeter.loop(total_steps=...)` stays in the script; it measures nothing here."""
    text = """
from trainfare import FareMeter
def train(_):
    with FareMeter.loop(model, optimizer, total_steps=32) as meter:
        for batch in meter.steps(loader):
            model(batch).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
"""
    profile = price(text)
    assert profile.plan.optimizer_steps == 32
    assert count_flops(profile) == {key: flops / 4 for key, flops in count_flops(price(ACCUMULATED)).items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def train(_): pass", "train.py ended, and no training was seen: no optimizer of torch has made a step that moves a parameter"),
        (
            ("value = nn.Parameter(torch.ones(2))\nby = torch.optim.SGD([value])\n"
            "def train(_):\n    while True:\n        value.sum().backward()\n        by.step()"),
            r"SGD.step at train.py:\d+ in train: no torch.nn.Module has the parameters of SGD",
        ),
        (
            ("def train(_):\n    while True:\n        (model[0].weight.sum() + model[3].weight.sum()).backward()\n"
            "        optimizer.step()"),
            "between two steps of it, no DataLoader gave a batch and no model was called",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_priced_is_refused(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        price(text)


def test_what_needs_another_trace_is_refused() -> None:
    job = load_script(HEAD + ACCUMULATED + STUB, optimizer_step=1)
    with pytest.raises(TraceError, match="traced as it runs, in 32-true, and not in bf16-true"):
        trace_job(replace(job, precision="bf16-true"))
    with pytest.raises(TraceError, match="--no-real forbids"):
        trace_job(job, real=None)
    with (
        UserProcess("train.py", ProcessLimits(), made_up=MadeUpData(batch="float32[4,8]")) as process,
        pytest.raises(TargetError, match="--made-up-data is for a Trainer"),
    ):
        process.profile()
