"""What a page splits step, memory and cost into: bars, and the numbers below them."""

from __future__ import annotations

from datetime import date

import pytest

from builders.exports import EXAMPLES, answer_of
from builders.profiles import profile
from builders.recommendations import make_measured_step, recommendation
from trainfare.fake_step import read_profile
from trainfare.report.blocks import Bars, Block, Table, Text, join_lines
from trainfare.report.sections import build_report
from trainfare.report.sections.breakdowns import build_phases_section, build_spot_section, build_step_section
from trainfare.report.sections.machine import build_machine_sections
from trainfare_core.recommendation import Interval, Recommendation, SpotFallback, SpotOutlook

_PROFILE = read_profile(str(EXAMPLES / "llama-7b.json"))


def _tables(blocks: list[Block]) -> list[Table]:
    return [block for block in blocks if isinstance(block, Table)]


def _bars(blocks: list[Block]) -> list[Bars]:
    return [block for block in blocks if isinstance(block, Bars)]


def test_bars_of_the_step_have_its_parts() -> None:
    """Of the first option 62 % are compute, as its parts say; a phase that was not measured is in no bar."""
    (bars,) = _bars(build_step_section(recommendation()))
    (first,) = [bar for bar in bars.bars if bar.name.startswith("#1 ")]
    assert first.shares[bars.names.index("compute")] == pytest.approx(0.62)
    assert sum(first.shares) == pytest.approx(1)
    assert first.text == "475 ms"
    (phases,) = _bars(build_phases_section(profile(measured=make_measured_step())))
    assert "transfer to the device" not in phases.names
    assert sum(phases.bars[0].shares) == pytest.approx(1)


def test_memory_is_split_into_parts_that_make_the_whole() -> None:
    """
    The parts of each machine add up to the peak that was ranked.

    Weights by hand: Llama 7B has 6,738,415,616 parameters of 2 bytes, of which FSDP leaves each of 8 devices an eighth:
    1.57 GiB; under DDP all of them: 12.6 GiB.
    """
    answer = answer_of("llama-7b")
    memory, *_ = _tables(build_machine_sections(answer, _PROFILE))
    names = [column.name for column in memory.columns]
    assert names == [
        "machine",
        "weights",
        "gradients",
        "optimizer",
        "activations",
        "temporary",
        "overhead",
        "GiB in all",
    ]
    sharding = {option.rank: option for option in answer.options}
    for row in memory.rows:
        label, *parts, whole = map(join_lines, row)
        option = sharding[int(label.split()[0][1:])]
        assert parts[0] == {"fsdp": "1.57", "ddp": "12.6"}[option.sharding]
        assert sum(map(float, parts)) == pytest.approx(option.memory_gib.mid, rel=0.01)
        assert whole.endswith(f"of {option.device_memory_gib:.3g} GiB")


def test_work_by_module_is_that_of_the_trace() -> None:
    """
    By hand: the head multiplies 8 x 4,096 tokens of 4,096 numbers with 32,000 words, 2 FLOPs each: 8.59 TFLOP forward.

    Backward takes twice as much, for inputs and weights.
    """
    *_, modules = _tables(build_machine_sections(answer_of("llama-7b"), _PROFILE))
    rows = {join_lines(row[0]): [join_lines(cell) for cell in row[1:]] for row in modules.rows}
    assert rows["head"][:2] == ["8.59 TFLOP", "17.2 TFLOP"]
    shares = [float(cells[-1].split()[0].lstrip("<")) for cells in rows.values()]
    assert sum(shares) == pytest.approx(100, abs=len(shares))


def test_time_by_kind_is_of_the_answers_machine() -> None:
    """Matrix products take most of the step of a language model, the update of its weights is no forward pass."""
    _, kinds, _ = _tables(build_machine_sections(answer_of("llama-7b"), _PROFILE))
    rows = {join_lines(row[0]): [join_lines(cell) for cell in row[1:]] for row in kinds.rows}
    assert next(iter(rows)) == "matmul"
    assert rows["optimizer"][:2] == ["", ""]


def test_a_prediction_that_was_not_ranked_is_left_out() -> None:
    """Where the ranked memory is another one, nothing is split, and the page says so."""
    answer = answer_of("llama-7b")
    options = tuple(
        option.model_copy(
            update={"memory_gib": option.memory_gib.model_copy(update={"mid": 1.05 * option.memory_gib.mid})}
        )
        for option in answer.options
    )
    blocks = build_machine_sections(answer.model_copy(update={"options": options}), _PROFILE)
    texts = [join_lines((block.line,)) for block in blocks if isinstance(block, Text)]
    assert [text.partition(" is not known here")[0] for text in texts] == [
        "What the memory consists of",
        "What the operations take",
    ]
    unknown = build_machine_sections(answer, None)
    assert not _tables(unknown)


def _with_spot() -> Recommendation:
    answer = recommendation()
    outlook = SpotOutlook(
        interruptions=0.66, per_machine_hour=Interval(mid=0.05, low_80=0.01, high_80=0.2), rate_source="assumed",
        waiting_hours=0.5, p50_hours=13.4, p90_hours=18.1, chance_in_time=0.93, save_every_n_steps=100,
        fallback=SpotFallback(
            after=3, chance=0.04, run_usd=9.5, p50_hours=13.4, p90_hours=17.2, chance_in_time=0.95
        ),
    )  # fmt: skip
    first = answer.options[0].model_copy(update={"spot": outlook})
    return answer.model_copy(update={"options": (first, *answer.options[1:])})


def test_a_spot_run_has_its_ends_and_its_fallback() -> None:
    """Half and nine of ten ends, dollars, interruptions, the deadline's chance, and what on demand would mean."""
    (table,) = _tables(build_spot_section(_with_spot()))
    cells = [join_lines(cell) for cell in table.rows[0]]
    for text in ("13.4 h", "18.1 h", "$5.15", "$3.60 – $7.37", "0.66", "93 %"):
        assert text in cells
    assert cells[-1] == "after 3, 4 % of runs: $9.50 expected, nine of ten within 17.2 h"
    assert build_spot_section(answer_of("llama-7b").model_copy(update={"best_spot": None})) == []


def test_a_page_without_its_profile_is_whole() -> None:
    """Every section is built from the answer alone."""
    assert build_report(recommendation(), None, date(2026, 11, 24))
