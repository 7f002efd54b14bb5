"""From a question to an answer: laws, amounts, draws, expected cost, reasons for uncertainty, pilots."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.profiles import gpt_profile
from builders.recommendations import costs, option
from trainfare_core.errors import InputError
from trainfare_core.methods.amounts import Amount, amount_of
from trainfare_core.methods.answer import MethodLine, MethodsAnswer
from trainfare_core.methods.draws import Found, Priced, ReachedBy, Sizes, outcomes
from trainfare_core.methods.knobs import Variant, best_variant, eight_bit_adam, knob_lines
from trainfare_core.methods.laws import (
    bit_steps,
    chinchilla_draws,
    distinct_tokens,
    tokens_for_repeats,
)
from trainfare_core.methods.lines import answer_of
from trainfare_core.methods.methods import METHOD_NAMES, METHODS, Method
from trainfare_core.methods.question import Question
from trainfare_core.recommendation import Interval

EXACT = chinchilla_draws(np.zeros((1, 3)))
VISION = {"full_finetune": 10.0, "lora": 9.0, "linear_probe": 3.0, "scratch": 170.0}


def find_by_path(
    usd: dict[str, float], question: Question, samples: float | None = 1e5, startup_usd: float = 0.02
) -> list[Found]:
    """Strategies with a price, and the others ruled out."""
    out: list[Found] = []
    for strategy in METHOD_NAMES:
        if strategy not in usd:
            out.append(Found(strategy, impossible_because="not asked for"))
            continue
        amount = amount_of(question, strategy, samples)
        out.append(
            Priced(
                strategy, profile=gpt_profile(), amount=amount,
                option=option(
                    usd=usd[strategy], hours=usd[strategy] / 2,
                    cost_parts=costs(usd[strategy]).model_copy(update={"startup_usd": startup_usd}),
                ),
            )
        )  # fmt: skip
    return out


def ask(usd: dict[str, float] | None = None, **fields: Any) -> MethodsAnswer:
    question = Question(**{"domain": "vision-cls", "samples": 50_000.0, **fields})
    pilots = fields.pop("pilots", None)
    return answer_of(
        question, find_by_path(usd or VISION, question), name="job", tool_version="0", pilots=pilots
    )


def line(answer: MethodsAnswer, strategy: Method) -> MethodLine:
    return next(line for line in answer.lines if line.strategy == strategy)


class TestLaws:
    def test_tokens_to_a_loss_of_a_worked_example(self) -> None:
        """1e9 parameters to 2.5 nats: 2.5e10 tokens, and one standard error of E moves that from 2.1e10 to 3.2e10."""
        assert EXACT.tokens_to(2.5, 1e9)[0] == pytest.approx(2.5e10, rel=0.03)
        moved = chinchilla_draws(np.array([[-1.0, 0, 0], [1.0, 0, 0]])).tokens_to(2.5, 1e9)
        assert moved == pytest.approx([2.1e10, 3.2e10], rel=0.05)

    def test_a_loss_is_inverted(self) -> None:
        """The tokens that reach a loss give that loss back."""
        draws = chinchilla_draws(np.random.default_rng(0).standard_normal((50, 3)))
        for target in (2.4, 2.8, 3.5):
            tokens = draws.tokens_to(target, 1e9)
            back = np.array([draws.loss_nats(1e9, float(token))[index] for index, token in enumerate(tokens)])
            assert back == pytest.approx(target)

    @pytest.mark.parametrize(
        ("target", "parameters", "term"), [(1.7, 1e12, "E"), (2.0, 1e7, "A/N"), (2.5, 1e9, "B/D")]
    )
    def test_the_binding_term_is_named(self, target: float, parameters: float, term: str) -> None:
        """Below the entropy, too small a model, or only a matter of data."""
        assert EXACT.binding_term(target, parameters) == term
        assert math.isinf(EXACT.tokens_to(target, parameters)[0]) == (term != "B/D")

    def test_repeats_fade(self) -> None:
        """Four epochs are nearly free; more than 1 + R* times the data is never reached."""
        assert distinct_tokens(1e9, 4e9) == pytest.approx(3.73e9, rel=0.01)
        assert distinct_tokens(1e9, 1e12) < 16.4e9
        assert distinct_tokens(1e9, 5e8) == 5e8
        worth = np.array([5e8, 1e9, 8e9, 17e9])
        seen = tokens_for_repeats(1e9, worth)
        assert seen[:2] == pytest.approx(worth[:2])
        assert distinct_tokens(1e9, float(seen[2])) == pytest.approx(8e9)
        assert math.isinf(seen[3])
        with pytest.raises(InputError):
            distinct_tokens(0, 1)

    def test_bit_rule(self) -> None:
        """500, 10,000 and 20,000 steps."""
        assert [bit_steps(size) for size in (1e3, 1e5, 1e6)] == [500, 10_000, 20_000]


class TestAmounts:
    def test_a_plan_beats_a_rule(self) -> None:
        """Given epochs, then the job's plan, then the rule of the kind of data, then nothing."""
        question = Question(domain="vision-cls", samples=1000.0, epochs=7.0)
        plain = Question(domain="vision-cls", samples=1000.0)
        assert amount_of(question, "full_finetune", 5e5).samples == 7000
        assert amount_of(plain, "full_finetune", 5e5).samples == 5e5
        assert amount_of(plain, "full_finetune").samples == 500 * 512
        assert amount_of(Question(), "full_finetune") is None

    def test_scratch_takes_the_published_multiples(self) -> None:
        """17 times for classification, 2 for a large detection set, once where there is nothing else."""
        size = {"samples": 118_000.0, "epochs": 12.0}
        assert amount_of(Question(domain="vision-cls", **size), "scratch").samples == 17 * 12 * 118_000
        assert amount_of(Question(domain="vision-det", **size), "scratch").samples == 2 * 12 * 118_000
        alone = Question(domain="vision-det", checkpoint="none", **size)
        assert amount_of(alone, "scratch").samples == 12 * 118_000

    def test_adapters_over_capacity_train_longer(self) -> None:
        """Four times full fine-tuning's samples once the data holds more than they can."""
        size = {"domain": "llm-ift", "samples": 1e6, "epochs": 1.0}
        small, large = Question(tokens_per_sample=50.0, **size), Question(tokens_per_sample=500.0, **size)
        assert amount_of(small, "lora").samples == 1e6
        assert amount_of(large, "lora").samples == 4e6

    def test_cached_features_pass_once(self) -> None:
        """A linear probe over kept features runs the backbone once."""
        cached = Question(domain="vision-cls", samples=1000.0, epochs=30.0, cache_features=True)
        assert amount_of(cached, "linear_probe").samples == 1000
        assert amount_of(cached, "full_finetune").samples == 30_000

    @pytest.mark.parametrize("strategy", METHOD_NAMES)
    def test_spreads_are_those_of_the_table(self, strategy: Method) -> None:
        """Shared and own parts make up the stated spread."""
        amount = amount_of(Question(samples=1e4), strategy)
        assert math.hypot(amount.shared, amount.own) == pytest.approx(METHODS[strategy].log_samples_sigma)


class TestAnswers:
    def test_the_cheapest_likely_to_reach_the_target_wins(self) -> None:
        """Full fine-tuning reaches its own level; a probe at a third of the cost does not, and costs its failures."""
        answer = ask()
        assert (answer.strategy, answer.reference) == ("full_finetune", "full_finetune")
        probe = line(answer, "linear_probe")
        assert probe.p_reach < 0.5
        assert probe.falls_back_to in ("lora", "full_finetune")
        assert probe.expected_usd > 3 + 0.5 * 10

    def test_a_pilot_is_run_only_where_it_pays(self) -> None:
        """A cheap probe may suffice: a pilot would show it. With nothing to save, the sentence recommends a strategy."""
        assert ask().kind == "pilot"
        plain = ask({"full_finetune": 10.0, "scratch": 300.0})
        assert plain.kind == "train"
        assert "Train with full_finetune: $" in plain.sentence

    def test_a_target_within_reach_of_a_probe_is_probed(self) -> None:
        """A known value and a modest target: the cheap strategy suffices."""
        answer = ask(metric="accuracy", known_value=0.90, target_value=0.5)
        assert answer.strategy == "linear_probe"
        assert line(answer, "linear_probe").p_reach > 0.8
        assert 0.7 < line(answer, "linear_probe").quality_value.mid < 0.9

    def test_a_target_out_of_reach_is_reported(self) -> None:
        """Nothing gets from 0.5 to 0.95, and the sentence gives the predicted value."""
        answer = ask(metric="accuracy", known_value=0.50, target_value=0.95)
        assert (answer.kind, answer.strategy) == ("none", None)
        assert "No strategy reaches the target" in answer.sentence
        assert "gap" in answer.sentence

    def test_an_unknown_level_asks_for_a_pilot(self) -> None:
        """A target and nothing known of what any strategy reaches."""
        usd = {"full_finetune": 10.0, "lora": 9.0, "linear_probe": 3.0}
        answer = ask(usd, metric="accuracy", target_value=0.8)
        assert answer.kind == "pilot"
        assert line(answer, "full_finetune").p_reach is None
        assert answer.sentence.startswith("Unknown: run a pilot of $")
        assert 0.02 < answer.pilot.usd <= 0.1 * min(usd.values()) * 1.2

    def test_a_pilot_pays_for_its_machines_start(self) -> None:
        """Where the start alone is more than a tenth of the plan, no pilot is worth its money."""
        question = Question(domain="vision-cls", samples=50_000.0)
        expensive = answer_of(
            question, find_by_path(VISION, question, startup_usd=1.0), name="job", tool_version="0"
        )
        assert ask().pilot.worth_it
        assert expensive.kind == "train"
        assert expensive.pilot.usd > 1.0
        assert not expensive.pilot.worth_it
        assert expensive.doubts

    def test_a_score_does_not_exceed_its_maximum(self) -> None:
        """However far a strategy is ahead: accuracy ends at 1, per cent at 100, and a loss has no end."""
        share = ask(
            metric="accuracy", known_value=0.97, target_value=0.9, domain="vision-cls", samples=1000.0
        )
        per_cent = ask(metric="top1", known_value=97.0, target_value=90.0, samples=1000.0)
        assert line(share, "lora").quality_value.high_80 == 1.0
        assert line(per_cent, "lora").quality_value.high_80 == 100.0

    def test_pilots_replace_published_comparisons(self) -> None:
        """LoRA reaches more for less in its pilot: it is recommended, and the target is a value."""
        pilots = {
            "full_finetune": ReachedBy(math.log(0.80), 0.01),
            "lora": ReachedBy(math.log(0.90), 0.01),
        }
        question = Question(domain="vision-cls", samples=5e4, metric="accuracy", target_value=0.85)
        usd = {"full_finetune": 10.0, "lora": 9.0}
        answer = answer_of(question, find_by_path(usd, question), name="job", tool_version="0", pilots=pilots)
        assert answer.strategy == "lora"
        assert line(answer, "lora").p_reach > 0.95
        assert line(answer, "full_finetune").p_reach < 0.05
        assert line(answer, "lora").quality.mid == pytest.approx(100 * math.log(0.9 / 0.8), abs=0.5)

    def test_a_lower_metric_turns_the_sign(self) -> None:
        """For a loss a target below is harder, one above is easy."""
        easy = ask(metric="val_loss", known_value=1.0, target_value=1.5)
        hard = ask(metric="val_loss", known_value=1.0, target_value=0.3)
        assert line(easy, "full_finetune").p_reach > 0.99
        assert hard.kind == "none"

    def test_the_scaling_law_decides_a_language_model_from_scratch(self) -> None:
        """124M parameters never reach 2.0 nats: the term that binds is named."""
        lm = {
            "domain": "llm-pt", "metric": "val_loss", "checkpoint": "none", "samples": 1e7,
            "tokens_per_sample": 1024.0,
        }  # fmt: skip
        answer = ask({"scratch": 100.0}, **lm, target_value=2.0)
        assert answer.kind == "none"
        assert "A/N" in answer.sentence
        reachable = line(ask({"scratch": 100.0}, **lm, target_value=4.5), "scratch")
        assert reachable.p_reach > 0.9
        assert reachable.samples.mid < 1e7

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"checkpoint": "unknown"}, "checkpoint"),
            ({"domain": "audio-tagging"}, "audio-tagging"),
            ({"samples": 5e9}, "ten times outside"),
            ({"domain": "llm-ift", "metric": "humaneval_pass1"}, "jumps"),
        ],
    )
    def test_reasons_for_uncertainty_are_listed(self, fields: dict[str, Any], word: str) -> None:
        """Each reason has its own words."""
        answer = ask(**fields)
        assert any(word in doubt for doubt in answer.doubts), answer.doubts
        assert not any(word in doubt for doubt in ask().doubts)

    def test_comparisons_are_named_with_their_sources(self) -> None:
        """As many as were counted; a strategy of which nothing was published has none."""
        answer = ask()
        assert any(entry.analog_sources for entry in answer.lines)
        for entry in answer.lines:
            assert bool(entry.analog_sources) == (entry.analogs > 0)

    def test_limits_come_first(self) -> None:
        """A strategy that breaks the budget is not the pick while another keeps it."""
        answer = ask({"full_finetune": 100.0, "linear_probe": 3.0}, max_usd=20.0)
        assert answer.strategy == "linear_probe"
        assert line(answer, "full_finetune").p_within < 0.1

    def test_nothing_fits_is_said_first(self) -> None:
        """Where every strategy breaks the limits, none is the pick; the nearest is the one that misses by least."""
        answer = ask({"full_finetune": 100.0, "linear_probe": 3.0}, max_usd=0.0001, deadline_hours=100.0)
        assert (answer.kind, answer.strategy) == ("none", None)
        assert answer.sentence.startswith(
            "Nothing fits the budget of $0.0001 and the deadline of 100 h with a probability of 90 %. The nearest is "
            "linear_probe: $"
        )
        assert answer.lines[0].strategy == "linear_probe"

    def test_reaching_itself_is_no_news(self) -> None:
        """A target relative to full fine-tuning gives full fine-tuning no chance; another strategy has one."""
        full = ask({"full_finetune": 1.0, "linear_probe": 300.0})
        assert full.strategy == "full_finetune"
        assert "chance" not in full.sentence
        assert "with a chance of " in ask({"full_finetune": 1e4, "linear_probe": 3.0}, within_pct=50).sentence

    def test_learning_rate_trials_multiply(self) -> None:
        """Search cost: k full runs."""
        once, thrice = ask(), ask(learning_rate_trials=3)
        ratio = line(thrice, "lora").usd.mid / line(once, "lora").usd.mid
        assert ratio == pytest.approx(3)

    def test_the_same_question_has_the_same_bytes(self) -> None:
        """And reads back."""
        assert ask().to_json() == ask().to_json()
        assert MethodsAnswer.model_validate_json(ask().to_json()) == ask()

    def test_no_price_at_all_is_no_answer(self) -> None:
        """Every reason is in the sentence."""
        question = Question()
        nothing = [Found(strategy, unknown_because="no kernel") for strategy in METHOD_NAMES]
        answer = answer_of(question, nothing, name="job", tool_version="0")
        assert answer.kind == "none"
        assert "no kernel" in answer.sentence

    def test_qlora_is_compared_through_lora(self) -> None:
        """Its quality is LoRA's and the published step between the two, not another set of comparisons."""
        usd = {"full_finetune": 10.0, "lora": 9.0, "qlora": 8.0}
        answer = ask(usd, domain="llm-ift", samples=2000.0, metric="val_loss")
        assert line(answer, "qlora").quality.mid < line(answer, "lora").quality.mid

    def test_costs_are_drawn_from_both_sides_of_a_lopsided_interval(self) -> None:
        """A run on spot machines that costs 60 to 400 USD about a median of 100: so do the draws, within 5 %."""
        priced = Priced(
            "lora",
            profile=gpt_profile(),
            amount=Amount(1e5, 0.0, 0.0, "as stated"),
            option=option(
                run_usd=Interval(mid=100.0, low_80=60.0, high_80=400.0),
                cost_parts=costs(100.0).model_copy(update={"startup_usd": 0.0}),
            ),
        )
        question = Question(domain="vision-cls", samples=50_000.0)
        drawn = outcomes(question, [priced], reference="lora", sizes=Sizes(), pilots={})["lora"].usd
        assert np.quantile(drawn, [0.1, 0.5, 0.9]) == pytest.approx([60, 100, 400], rel=0.05)


class TestKnobs:
    def test_eight_bit_adam_shrinks_state_only(self) -> None:
        """Two bytes a parameter instead of eight, and a smaller checkpoint."""
        plain = Variant(gpt_profile(), ())
        small = eight_bit_adam(plain)
        assert small.needs_nvidia
        assert small.profile.optimizer.state_bytes == pytest.approx(
            plain.profile.optimizer.state_bytes / 4, rel=0.02
        )
        assert small.profile.memory == plain.profile.memory
        sgd = plain.profile.model_copy(
            update={"optimizer": plain.profile.optimizer.model_copy(update={"names": ("SGD",)})}
        )
        assert eight_bit_adam(Variant(sgd, ())) is None

    def test_fewer_knobs_win_unless_more_are_clearly_cheaper(self) -> None:
        """One per cent is not worth a knob, ten are."""
        plain, more = Variant(gpt_profile(), ()), Variant(gpt_profile(), ("8-bit AdamW",))
        assert best_variant([(more, option(usd=9.9)), (plain, option(usd=10.0))])[0] is plain
        assert best_variant([(more, option(usd=9.0)), (plain, option(usd=10.0))])[0] is more
        assert best_variant([]) is None

    def test_settings_are_in_the_order_to_try_them(self) -> None:
        """Precision, batch, optimizer, recomputation, sharding."""
        variant = Variant(gpt_profile(), ("8-bit AdamW", "recompute the blocks in backward"))
        lines = knob_lines(variant, option(micro_batch_size=4, accumulate_grad_batches=2, sharding="fsdp"))
        words = ("precision", "micro-batch 4, accumulate 2", "8-bit", "recompute", "FSDP")
        assert [next(i for i, text in enumerate(lines) if word in text) for word in words] == [0, 1, 2, 3, 4]

    def test_fp8_is_named_where_its_peak_is_above_that_of_bf16(self) -> None:
        """fp8 is named for every chip whose peak in fp8 is above that in bf16, with the range that docs/choosing.md states."""
        large = Variant(gpt_profile(layers=32, width=4096, heads=32), ())

        def name_changes(variant: Variant, chip: str) -> list[str]:
            return [text for text in knob_lines(variant, option(accelerator=chip)) if "fp8" in text]

        for chip in ("H100-SXM-80GB", "GB300-NVL-277GB", "MI300X", "L40S-48GB"):
            assert len(name_changes(large, chip)) == 1, chip
        for chip in ("A100-SXM-80GB", "Gaudi3-128GB"):  # without fp8; with fp8 at the rate of bf16
            assert not name_changes(large, chip), chip
        assert not name_changes(Variant(gpt_profile(), ()), "H100-SXM-80GB")
        page = (Path(__file__).parents[3] / "docs" / "choosing.md").read_text(encoding="utf-8")
        spread = re.search(r"from \d+ % less to \d+ % more time", name_changes(large, "H100-SXM-80GB")[0])
        assert spread
        assert spread[0] in " ".join(page.split())


def test_impossible_strategies_have_a_reason() -> None:
    """No checkpoint leaves only scratch; a language model has no linear probe."""
    assert set(Question(checkpoint="none").impossible()) == set(METHOD_NAMES) - {"scratch"}
    assert set(Question(domain="llm-ift").impossible()) == {"linear_probe"}
    assert set(Question(strategies=("lora", "full_finetune")).impossible()) == set(METHOD_NAMES) - {
        "lora",
        "full_finetune",
    }
