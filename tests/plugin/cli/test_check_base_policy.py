"""A change is judged by the policy of its base; what it does to the policy is a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.cli import run_main
from builders.git_repository import GitRepository
from builders.toy_market import small_job
from trainfare_core.policy.check import PolicyCheck
from trainfare_core.policy.limit_findings import Finding

NET = """\
[jobs.net]
target = "net.json"
max_usd = {max_usd}
"""
CHEAP, DEAR = 1_000, 1_000_000_000
"""Steps of a run that costs a dollar or so, and of one that costs thousands."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepository:
    """A repository with a policy of one job that keeps it; it is the working directory."""
    repository = GitRepository.new(tmp_path / "project")
    repository.put("net.json", small_job(steps=CHEAP).to_json())
    repository.put("trainfare.toml", NET.format(max_usd=20))
    repository.commit("the policy")
    monkeypatch.chdir(repository.root)
    return repository


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, PolicyCheck]:
    capsys.readouterr()
    code = run_main("check", "--compare-to", "HEAD", "--format", "json", *arguments)
    return code, PolicyCheck.model_validate_json(capsys.readouterr().out)


def policy_findings(answer: PolicyCheck) -> list[Finding]:
    return [finding for job in answer.jobs for finding in job.findings if finding.rule == "policy_change"]


def test_a_policy_that_is_not_changed_is_not_mentioned(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    del repository
    code, answer = check(capsys)
    assert (code, [job.name for job in answer.jobs], policy_findings(answer)) == (0, ["net"], [])


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (NET.format(max_usd=10_000_000), "this change raises max_usd of job net from 20 to 10,000,000"),
        (NET.format(max_usd=20).replace("max_usd = 20", "max_hours = 9999"), "this change drops max_usd of job net from 20"),
        (f"confidence = 0.5\n{NET.format(max_usd=20)}", "this change lowers confidence from 0.9 to 0.5"),
        (f'on_unknown = "pass"\n{NET.format(max_usd=20)}', 'this change changes on_unknown from "fail" to "pass"'),
        (
            f'{NET.format(max_usd=20)}[[waivers]]\njob = "net"\nrule = "max_usd"\nowner = "me"\nreason = "why"\nexpires = 2999-01-01\n',
            "this change adds a waiver of max_usd for job net, by me until 2999-01-01: why",
        ),
        (NET.format(max_usd=20).replace("net.json", "cheap.json"), 'this change changes target of job net from "net.json" to "cheap.json"'),
        (f'on_policy_change = "warn"\n{NET.format(max_usd=20)}', 'this change changes on_policy_change from "fail" to "warn"'),
    ],
)  # fmt: skip
def test_a_looser_policy_does_not_count_and_fails(
    repository: GitRepository, capsys: pytest.CaptureFixture[str], policy: str, said: str
) -> None:
    """Whether the run is cheap or not: the owners of the policy decide, and the base's limits count meanwhile."""
    repository.put("trainfare.toml", policy)
    repository.put("cheap.json", small_job(steps=CHEAP).to_json())
    for steps in (CHEAP, DEAR):
        repository.put("net.json", small_job(steps=steps).to_json())
        code, answer = check(capsys)
        assert code == 1
        assert said in [finding.message for finding in policy_findings(answer) if finding.level == "error"]
        judged = answer.jobs[0].exit_code
        assert judged == (1 if steps == DEAR and "cheap" not in policy else 0)


def test_the_base_can_have_a_looser_policy_warn(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cheap run then passes with a warning, and a dear one breaks the limit of the base."""
    repository.put("trainfare.toml", f'on_policy_change = "warn"\n{NET.format(max_usd=20)}')
    repository.commit()
    repository.put("trainfare.toml", NET.format(max_usd=10_000_000))
    code, answer = check(capsys)
    assert code == 0
    assert {finding.level for finding in policy_findings(answer)} == {"warning"}
    repository.put("net.json", small_job(steps=DEAR).to_json())
    assert check(capsys)[0] == 1


def test_a_stricter_policy_is_a_note(repository: GitRepository, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts as soon as it is the base's."""
    repository.put("trainfare.toml", NET.format(max_usd=10) + "max_increase_usd = 5\n")
    code, answer = check(capsys)
    assert code == 0
    assert [finding.message for finding in policy_findings(answer)] == [
        "this change lowers max_usd of job net from 20 to 10",
        "this change sets max_increase_usd of job net to 5",
    ]
    assert {finding.level for finding in policy_findings(answer)} == {"note"}


@pytest.mark.parametrize(("on_policy_change", "code"), [("fail", 1), ("warn", 3)])
def test_a_job_that_is_gone_or_renamed_never_passes(
    repository: GitRepository, capsys: pytest.CaptureFixture[str], on_policy_change: str, code: int
) -> None:
    """A new name has the limits of the change; that the old one is gone is said."""
    base = f'on_policy_change = "{on_policy_change}"\n{NET.format(max_usd=20)}'
    repository.put("trainfare.toml", base)
    repository.commit()
    repository.put("trainfare.toml", base.replace("jobs.net", "jobs.nett").replace("20", "10_000_000"))
    ended, answer = check(capsys)
    assert ended == code
    assert [finding.message for finding in policy_findings(answer)] == [
        "this change takes job net out of the policy",
        "job nett is new: its limits are those of this change",
    ]


def test_a_policy_that_moves_to_another_file_is_compared_with_the_old_one(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """From trainfare.toml to pyproject.toml, with another limit on the way."""
    (repository.root / "trainfare.toml").unlink()
    repository.put(
        "pyproject.toml", "[tool.trainfare]\n" + NET.format(max_usd=99).replace("jobs", "tool.trainfare.jobs")
    )
    code, answer = check(capsys)
    assert code == 1
    assert "from 20 to 99" in policy_findings(answer)[0].message


def test_a_base_without_a_policy_is_said(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first policy of a repository has nothing to be compared with."""
    (repository.root / "trainfare.toml").unlink()
    repository.commit("no policy")
    repository.put("trainfare.toml", NET.format(max_usd=20))
    code, answer = check(capsys)
    assert code == 0
    assert "has no policy: the limits are those of this change" in answer.notes[0]


def test_own_prices_are_those_of_the_base(
    repository: GitRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A discount that a branch gives itself is a finding and lowers no cost."""
    repository.put("own.toml", "[[discount]]\nname = 'deal'\nprovider = 'aws'\npercent = 1\n")
    repository.put("trainfare.toml", f'own_prices = "own.toml"\n{NET.format(max_usd=20)}')
    repository.commit()
    _, before = check(capsys)
    repository.put("own.toml", "[[discount]]\nname = 'deal'\nprovider = 'aws'\npercent = 99.9\n")
    code, answer = check(capsys)
    assert code == 1
    assert [finding.message for finding in policy_findings(answer)] == [
        "this change alters the own prices in own.toml"
    ]
    first, second = before.jobs[0].check, answer.jobs[0].check
    assert first is not None
    assert second is not None
    assert first.best == second.best


def test_a_folder_of_profiles_may_hold_the_policy_of_the_base(
    repository: GitRepository, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Where the base was traced in a job of its own, its policy lies beside the profiles."""
    repository.put("trainfare.toml", NET.format(max_usd=10_000_000))
    base = tmp_path / "base"
    base.mkdir()
    (base / "net.json").write_text(small_job(steps=CHEAP).to_json())
    assert run_main("check", "--base", str(base)) == 0
    (base / "trainfare.toml").write_text(NET.format(max_usd=20))
    capsys.readouterr()
    assert run_main("check", "--base", str(base)) == 1
    assert "raises max_usd of job net" in " ".join(capsys.readouterr().out.split())
