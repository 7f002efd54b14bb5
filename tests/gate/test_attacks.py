"""
Whatever a branch puts into its policy, prices, targets and profiles, a run that is too dear does not pass the gate.

Each attack changes a tree whose run breaks the limits of its base, and is then judged in the three ways in which a
change meets its base: a commit, a folder of the base, and an artifact of the change. Nothing is traced: the jobs are
profiles. What code of a branch does while it is traced is in tests/plugin/user_process and beside this file.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.cli import capture_main
from builders.git_repository import GitRepository
from builders.toy_market import book, offer_row, small_job
from trainfare.prices.lock import LockHeader, lock_text

POLICY = """\
lock = "trainfare.lock"
[jobs.net]
target = "net.json"
max_usd = 20
max_increase_percent = 10
"""
SECRET = "cAnArY"
Attack = Callable[[Path], None]


def write(name: str, content: str | bytes) -> Attack:
    """Replace a file."""

    def act(tree: Path) -> None:
        path = tree / name
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return act


def policy(old: str, new: str) -> Attack:
    """Replace a part of the policy."""
    assert old in POLICY
    return write("trainfare.toml", POLICY.replace(old, new))


def top(line: str) -> Attack:
    """Add a key at the top of the policy."""
    return write("trainfare.toml", f"{line}\n{POLICY}")


def below(text: str) -> Attack:
    """Add to the table of the job, or tables after it."""
    return write("trainfare.toml", POLICY + text)


def put(name: str, make: Callable[[Path], object]) -> Attack:
    """Put something else than a file into the place of a file."""

    def act(tree: Path) -> None:
        (tree / name).unlink()
        make(tree / name)

    return act


def link(name: str, goal: str) -> Attack:
    return put(name, lambda path: path.symlink_to(goal))


def bind(path: Path) -> None:
    """Leave a socket there; its own path may be too long for one."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


def both(*attacks: Attack) -> Attack:
    def act(tree: Path) -> None:
        for attack in attacks:
            attack(tree)

    return act


def grow(name: str) -> Attack:
    return put(name, lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**30))


def lock_of(usd_per_hour: float, **row: object) -> str:
    header = LockHeader.model_validate({"tool_version": "0", "locked_on": "2026-10-01", "rows": 1})
    return lock_text(header, book(offer_row(usd_per_hour=usd_per_hour, observed_on="2026-10-01", **row)))


def profile(change: Callable[[dict[str, object]], object]) -> Attack:
    """Change the document of the profile."""

    def act(tree: Path) -> None:
        document = json.loads((tree / "net.json").read_text(encoding="utf-8"))
        change(document)
        (tree / "net.json").write_text(json.dumps(document), encoding="utf-8")

    return act


def plan(**fields: object) -> Attack:
    return profile(lambda document: document["plan"].update(fields))  # type: ignore[attr-defined]


def text(change: Callable[[str], str | bytes]) -> Attack:
    """Change the text of the profile."""

    def act(tree: Path) -> None:
        write("net.json", change((tree / "net.json").read_text(encoding="utf-8")))(tree)

    return act


def not_files(name: str) -> dict[str, Attack]:
    """Return what may stand in the place of a file that is read."""
    return {
        "is gone": lambda tree: (tree / name).unlink(),
        "is empty": write(name, ""),
        "links to a secret": link(name, "../secret"),
        "links to a password": link(name, "../password"),
        "links to the environment": link(name, "/proc/self/environ"),
        "links to nothing": link(name, "/dev/null"),
        "links to zeros": link(name, "/dev/zero"),
        "links to random bytes": link(name, "/dev/urandom"),
        "links to itself": link(name, name),
        "links to standard input": link(name, "/dev/stdin"),
        "is a folder": put(name, Path.mkdir),
        "is a pipe": put(name, os.mkfifo),
        "is a socket": put(name, bind),
        "is 1 GiB": grow(name),
        "is UTF-16": write(name, POLICY.encode("utf-16")),
        "is binary": write(name, b"\x00\xff\xfe" * 99),
    }


WAIVER = '[[waivers]]\njob = "{job}"\nrule = "{rule}"\nowner = "me"\nreason = "x"\nexpires = {day}\n'
OTHER = '[jobs.{name}]\ntarget = "net.json"\nmax_usd = 1e9\n'
LIMITS = {
    **{f"max_usd = {value}": policy("max_usd = 20", f"max_usd = {value}") for value in (
        "1e9", "inf", "nan", "-1", "true", '"1e9"', "1e999", "0xfffffffff", "[20]", "2026-01-01", "9" * 400,
    )},
    "max_usd is dropped": policy("max_usd = 20\n", ""),
    "the increase is dropped": policy("max_increase_percent = 10\n", ""),
    "the increase is raised": policy("= 10", "= 1e12"),
    "no limit is left": policy("max_usd = 20\nmax_increase_percent = 10\n", ""),
    "another limit for both": policy("max_usd = 20\nmax_increase_percent = 10\n", "max_hours = 1e9\n"),
    "confidence": top("confidence = 0.5"),
    "confidence of the job": below("confidence = 0.5\n"),
    "unknown passes": both(top('on_unknown = "pass"'), plan(optimizer_steps=None, unknown_because="x")),
    "unknown passes for the job": both(below('on_unknown = "pass"\n'), plan(optimizer_steps=None, unknown_because="x")),
    "changes warn": both(top('on_policy_change = "warn"'), policy("= 20", "= 1e9")),
    "max_nodes": top("max_nodes = 64"),
    "old prices": top('max_price_age_days = 1e6\non_stale = "warn"'),
    "all clouds": top("all_clouds = true"),
    "keep_plan": top("keep_plan = true"),
    "changes of the plan": top('allow_changes = ["precision"]'),
    "max_run_hours": top("max_run_hours = 1e9"),
    "free storage": below("[run_cost]\nstartup_minutes = 0\n"),
    "spot": below('[jobs.net.allow]\npurchase = ["spot"]\n'),
    "an allow-list": below('[allow]\nregions = ["us-east-1"]\n'),
    "schema 2": top("schema_version = 2"),
    "a table of another name": write("trainfare.toml", POLICY.replace("jobs.net", "job.net")),
    "comments alone": write("trainfare.toml", "".join(f"# {line}\n" for line in POLICY.splitlines())),
    "a second table": below("[jobs.net]\nmax_usd = 1e9\n"),
    "a dotted key": below("[jobs]\nnet.max_usd = 1e9\n"),
    "an array of tables": policy("[jobs.net]", "[[jobs.net]]"),
    "a byte order mark": write("trainfare.toml", "\ufeff" + POLICY),
    "NUL": write("trainfare.toml", POLICY + "\x00max_usd = 1e9"),
    "a carriage return": write("trainfare.toml", POLICY.replace("max_usd", "# \rmax_usd")),
    "2 MiB of comments": below("# x\n" * 2**19),
    "a deep table": below("[" + "a." * 50_000 + "a]\n"),
    "deep arrays": below("x = " + "[" * 50_000 + "\n"),
    "project file beside": write("pyproject.toml", "[tool.trainfare.jobs.net]\ntarget = 'net.json'\nmax_usd = 1e9\n"),
    "moved to the project file": both(
        write("pyproject.toml", "[tool.trainfare.jobs.net]\ntarget = 'net.json'\nmax_usd = 1e9\n"),
        lambda tree: (tree / "trainfare.toml").unlink(),
    ),
}  # fmt: skip
NAMES = {
    "renamed": policy("jobs.net", "jobs.nett"),
    "renamed and raised": write("trainfare.toml", POLICY.replace("jobs.net", "jobs.nett").replace("= 20", "= 1e9")),
    "another case": policy("jobs.net", "jobs.NET"),
    "a letter that looks the same": policy("jobs.net", "jobs.'n\u0435t'"),
    "a name with a slash": policy("jobs.net", "jobs.'../net'"),
    "a name with a line break": policy("jobs.net", 'jobs."net\\n"'),
    "an empty name": policy("jobs.net", "jobs.''"),
    "another job beside": below(OTHER.format(name="more")),
    "replaced by another": write("trainfare.toml", 'lock = "trainfare.lock"\n' + OTHER.format(name="more")),
    "a waiver": below(WAIVER.format(job="net", rule="max_usd", day="2999-01-01")),
    "waivers of both": below("".join(
        WAIVER.format(job="net", rule=rule, day="9999-12-31") for rule in ("max_usd", "max_increase_percent"))),
    "a waiver without an end": below(WAIVER.format(job="net", rule="max_usd", day="inf")),
    "a waiver with a blank owner": below(WAIVER.format(job="net", rule="max_usd", day="2999-01-01").replace('"me"', '" "')),
    "a waiver of everything": below(WAIVER.format(job="net", rule="*", day="2999-01-01")),
    "a waiver of policy changes": below(WAIVER.format(job="net", rule="policy_change", day="2999-01-01")),
    "a waiver of a new job": both(
        write("trainfare.toml", POLICY.replace("jobs.net", "jobs.new") + WAIVER.format(job="new", rule="max_usd", day="2999-01-01")),
    ),
}  # fmt: skip
CHEAP = small_job(steps=1_000).to_json()
TARGETS = {
    target: both(policy('"net.json"', json.dumps(target)), write("cheap.json", CHEAP))
    for target in (
        "cheap.json", "./cheap.json", "../secret", "/etc/passwd", "/proc/self/environ", "/dev/zero", "-", "./-", "", " ", "--help", "-c",
        "http://127.0.0.1:9/x", "file:///etc/passwd", "; rm -rf x", "$(touch was-here)", "net.json\x00.py", "net.json\n", "a" * 9_000,
        "os:getcwd", "no.such.module:job", "net.json:job", "\u202echeap.json", "~/cheap.json", "cheap.json/", "*.json",
    )
}  # fmt: skip
PRICES = {
    "prices over 1,000": write("trainfare.lock", lock_of(0.004)),
    "a price of almost nothing": write("trainfare.lock", lock_of(1e-300)),
    "more memory for less": write("trainfare.lock", lock_of(0.004, provider="gcp")),
    "locked tomorrow": write("trainfare.lock", lock_of(0.004).replace("2026-10-01", "2999-10-01")),
    "edited by hand": write("trainfare.lock", lock_of(4.0).replace("4", "0")),
    "twice the rows": write("trainfare.lock", lock_of(4.0) + lock_of(0.004)),
    "no text": write("trainfare.lock", "[]"),
    "own prices": both(top('own_prices = "own.toml"'), write("own.toml", "[discounts]\naws = 99.9\n")),
    "own prices from a pipe": both(top('own_prices = "own.toml"'), lambda tree: os.mkfifo(tree / "own.toml")),
    "own prices that are a secret": both(top('own_prices = "own.toml"'), lambda tree: (tree / "own.toml").symlink_to("../secret")),
    **{
        f"lock = {lock!r}": both(policy('"trainfare.lock"', json.dumps(lock)), write("mine.lock", lock_of(0.004)))
        for lock in (
            "mine.lock", "../secret", "/proc/self/environ", "/dev/zero", "https://127.0.0.1:9/lock", "--help", "; rm -rf x", "x\x00", ".",
        )
    },
}  # fmt: skip
PROFILES = {
    "a key twice": text(lambda given: given.replace('"plan":', f'"plan": {json.dumps(json.loads(CHEAP)["plan"])}, "plan":')),
    "no schema": profile(lambda document: document.pop("schema_version")),
    "schema 2": profile(lambda document: document.update(schema_version=2)),
    "an unknown key": profile(lambda document: document.update(usd=1)),
    "a long unknown key": profile(lambda document: document.update({"k" * 10**6: 1})),
    "two documents": text(lambda given: given + CHEAP),
    "cheap one first": text(lambda given: CHEAP + given),
    "words after it": text(lambda given: given + "x"),
    "a byte order mark": text(lambda given: "\ufeff" + given),
    "UTF-16": text(lambda given: given.encode("utf-16")),
    "cut": text(lambda given: given[:-99]),
    "a comment": text(lambda given: "// cheap\n" + given),
    "deep": text(lambda given: "[" * 10**6 + given),
    "deep inside": text(lambda given: given.replace('"notes": []', '"notes": ' + "[" * 10**5 + "]" * 10**5)),
    "no operations as a number": profile(lambda document: document.update(operations=0)),
    "negative work": profile(lambda document: document["operations"][0].update(flops=-(10**17))),  # type: ignore[index]
    "as text": text(json.dumps),
    "in a list": text(lambda given: f"[{given}]"),
    **{
        f"{steps!r} steps": plan(optimizer_steps=steps)
        for steps in (-1, float("nan"), float("inf"), "one", 0.5, "1e9", [1], {"x": 1}, 10**30, None)
    },
    "an unknown length with a reason": plan(optimizer_steps=None, unknown_because="passed, no change in cost"),
    "no device": profile(lambda document: document["parallel"].update(devices=0)),  # type: ignore[attr-defined]
}  # fmt: skip
CLASSES: dict[str, dict[str, Attack]] = {
    "limits": LIMITS,
    "names and waivers": NAMES,
    "targets": TARGETS,
    "prices": PRICES,
    "profiles": PROFILES,
    "file of the policy": not_files("trainfare.toml"),
    "file of the lock": not_files("trainfare.lock"),
    "file of the job": not_files("net.json"),
}
REFS = (
    "--help", "--upload-pack=touch was-here", "--output=was-here", "-evil", "HEAD:net.json", "HEAD^{tree}", "$(touch was-here)",
    "; touch was-here", "a" * 9_000, "\x1b[31mHEAD", "HEAD\nHEAD", "", " ", "..", "HEAD..HEAD", "@{u}", "HEAD@{9}", "HEAD~9", ":/none",
    ":0:net.json", "refs/heads/*", "net.json", "trainfare.toml", "change:net.json", "HEAD^{commit}^{blob}",
)  # fmt: skip
"""Names of commits that are none."""
SHADOWS: dict[str, tuple[str, ...]] = {
    "a tag of the branch's name": ("tag", "main", "change"),
    "a tag of the server's branch": ("tag", "origin/main", "change"),
    "a branch of the server's name": ("branch", "origin/main", "change"),
    "a tag of refs": ("tag", "refs/heads/main", "change"),
    "a branch that is called HEAD": ("update-ref", "refs/heads/HEAD", "change"),
}
"""What a branch can bring along, or a fetch can leave, under the name of its base."""


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The base with a cheap run in `base`; a change that makes it dear in `head`; a secret beside them."""
    monkeypatch.setenv("A_TOKEN", SECRET)
    (tmp_path / "secret").write_text(f'token = "{SECRET}"\n', encoding="utf-8")
    (tmp_path / "password").write_text(f"{SECRET}\n", encoding="utf-8")
    repository = GitRepository.new(tmp_path / "head")
    repository.put("trainfare.toml", POLICY)
    repository.put("trainfare.lock", lock_of(4.0))
    repository.put("net.json", CHEAP)
    repository.commit("the base")
    shutil.copytree(tmp_path / "head", tmp_path / "base", ignore=shutil.ignore_patterns(".git"))
    repository.put("net.json", small_job(steps=1_000_000_000).to_json())
    return tmp_path


WAYS = {
    "commit": ("head", ("--compare-to", "HEAD")),
    "folder": ("head", ("--base", "../base")),
    "artifact": ("base", ("--profiles", "../head", "--base", "../base")),
}


@pytest.mark.parametrize("way", WAYS)
def test_without_an_attack_the_run_is_too_dear(
    way: str, trees: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both limits are broken, so that an attack on one alone shows as well."""
    folder, arguments = WAYS[way]
    monkeypatch.chdir(trees / folder)
    done = capture_main(capsys, "check", *arguments)
    assert done.exit_code == 1, done.stderr
    assert "TF001" in done.stdout
    assert "TF005" in done.stdout


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, attacks in CLASSES.items() for name in attacks]
)
def test_no_attack_passes_the_gate(
    group: str,
    name: str,
    way: str,
    trees: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It ends with a broken limit, bad input or 'cannot tell', shows no secret, makes no file, and does not hang."""
    CLASSES[group][name](trees / "head")
    folder, arguments = WAYS[way]
    monkeypatch.chdir(trees / folder)
    before = sorted(trees.rglob("*"))
    done = capture_main(capsys, "check", *arguments)
    assert done.exit_code in (1, 2, 3), done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 20_000
    assert sorted(path for path in trees.rglob("*") if ".git" not in path.parts) == [
        path for path in before if ".git" not in path.parts
    ]


@pytest.mark.parametrize("ref", REFS)
def test_a_name_that_is_no_commit_runs_nothing(
    ref: str, trees: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input, in one error without a control character; it is no option of git's and no command of a shell."""
    monkeypatch.chdir(trees / "head")
    before = sorted(trees.rglob("*"))
    done = capture_main(capsys, "check", f"--compare-to={ref}")
    assert (done.exit_code, done.stdout) == (2, ""), done.stdout
    assert "\x1b" not in done.stderr
    assert sorted(trees.rglob("*")) == before
    assert len(GitRepository(trees / "head").worktrees()) == 1


@pytest.mark.parametrize("shadow", SHADOWS)
@pytest.mark.parametrize("ref", ["main", "origin/main", "HEAD^1"])
def test_another_commit_under_the_name_of_the_base_does_not_pass(
    shadow: str, ref: str, trees: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change that raises its limits, compared with itself, would be no change: a name of two commits is refused."""
    repository = GitRepository(trees / "head")
    repository.git("update-ref", "refs/remotes/origin/main", "main")
    repository.git("switch", "--quiet", "-c", "change")
    repository.put("trainfare.toml", POLICY.replace("max_usd = 20", "max_usd = 1e9"))
    repository.commit("a dear change")
    repository.git(*SHADOWS[shadow])
    monkeypatch.chdir(repository.root)
    done = capture_main(capsys, "check", "--compare-to", ref)
    assert done.exit_code in (1, 2), done.stdout
