"""What a ranking says that it assumes of the script's plan."""

from __future__ import annotations

import pytest

from builders.toy_market import small_job
from trainfare_core.job_profile import BatchScale, SynchronizedNorms
from trainfare_core.limits.constraints import Scale
from trainfare_core.ranking.options.assumptions import assumptions_of
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Constraints

NORMS = SynchronizedNorms(modules=2, channels=64)


@pytest.mark.parametrize(
    ("own", "synchronized", "says"),
    [
        (True, None, "BatchNorm {} fewer samples of a device than in the script, which"),
        (False, NORMS, "SyncBatchNorm {} fewer samples of all devices than in the script, which"),
        (True, NORMS, "samples of a device, SyncBatchNorm {} fewer samples of all devices than in"),
        (False, None, ""),
    ],
)
def test_whose_samples_batch_norm_sees_is_said(
    own: bool, synchronized: SynchronizedNorms | None, says: str
) -> None:
    """Those of a device, or of all where moments are exchanged; `--allow batch-norm` turns never into may."""
    job = small_job()
    facts = job.batch.model_copy(update={"batch_norm": own, "synchronized_norms": synchronized})
    job = job.model_copy(update={"batch": facts})
    for allow, words in (((), "never sees"), (("batch-norm",), "may see")):
        text = " ".join(assumptions_of(job, Request(Constraints(allow=allow)), ()))
        assert (says.format(words) in text) if says else ("BatchNorm" not in text)
        assert ("2 layers of SyncBatchNorm exchange their moments" in text) == (synchronized is not None)


@pytest.mark.parametrize(
    ("scales", "scale", "grows"),
    [
        ("per_device", None, True),
        ("per_device", "batch", False),
        ("fixed", None, False),
        ("fixed", "samples", True),
        ("global", None, False),
    ],
)
def test_what_more_devices_do_to_the_batch_is_said(
    scales: BatchScale, scale: Scale | None, grows: bool
) -> None:
    job = small_job()
    job = job.model_copy(update={"batch": job.batch.model_copy(update={"scales": scales})})
    text = " ".join(assumptions_of(job, Request(Constraints(scale=scale)), ()))
    assert ("each device keeps the script's batch" in text) == grows
    assert ("the global batch stays what the profile trains with" in text) != grows
