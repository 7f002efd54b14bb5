"""Where runs are recorded: the variable, the settings, the user's folder, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainfare.ledger.place import BucketAddress, LedgerPlace, find_ledger, read_folder
from trainfare.policy.policy_file import read_policy
from trainfare_core.errors import InputError


def settings(folder: Path, text: str) -> Path:
    (folder / "trainfare.toml").write_text(f"[ledger]\n{text}\n")
    return folder


def test_the_users_folder_and_the_repositorys_name_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    inside = tmp_path / "repository" / "jobs"
    inside.mkdir()
    default = read_folder(None)
    assert isinstance(default, Path)
    assert find_ledger({}, inside) == LedgerPlace(inside / default, "repository")
    if os.name == "posix":
        assert default == tmp_path / "data" / "trainfare" / "ledger"
    assert not (tmp_path / "data").exists()


def test_the_settings_name_a_folder_beside_them_and_a_project(tmp_path: Path) -> None:
    settings(tmp_path, 'folder = "runs"\nproject = "a team"')
    assert find_ledger({}, tmp_path) == LedgerPlace(tmp_path / "runs", "a team")


def test_the_variable_comes_first(tmp_path: Path) -> None:
    settings(tmp_path, 'folder = "off"\nproject = "a team"')
    assert find_ledger({"TRAINFARE_LEDGER": "/shared/runs"}, tmp_path) == LedgerPlace(
        Path("/shared/runs"), "a team"
    )


def test_off(tmp_path: Path) -> None:
    """By the variable, which then reads no settings, broken ones neither; or by them."""
    assert find_ledger({}, settings(tmp_path, 'folder = "off"')) is None
    settings(tmp_path, "nonsense")
    assert find_ledger({"TRAINFARE_LEDGER": "off"}, tmp_path) is None
    with pytest.raises(InputError, match="toml"):
        find_ledger({}, tmp_path)


@pytest.mark.parametrize("address", ["s3://bucket/runs", "gs://bkt", "az://container/a/b"])
def test_a_bucket_is_an_address_and_no_path(tmp_path: Path, address: str) -> None:
    """By the variable and by the settings; a `Path` of it would lose a slash."""
    bucket = BucketAddress(address)
    assert find_ledger({"TRAINFARE_LEDGER": f"{address}/"}, tmp_path) == LedgerPlace(bucket, tmp_path.name)
    assert find_ledger({}, settings(tmp_path, f'folder = "{address}"')) == LedgerPlace(bucket, tmp_path.name)
    with pytest.raises(InputError, match="no address of a bucket"):
        find_ledger({"TRAINFARE_LEDGER": "https://host/x"}, tmp_path)


def test_what_a_launch_file_says_is_taken_where_the_settings_say_nothing(tmp_path: Path) -> None:
    """An unfilled placeholder counts as not set; the project of the settings takes precedence over the exported one."""
    exported = {"TRAINFARE_LEDGER": "FILL_IN_LEDGER", "TRAINFARE_PROJECT": "of the plan"}
    default = find_ledger({}, tmp_path)
    assert default is not None
    assert find_ledger(exported, tmp_path) == LedgerPlace(default.folder, "of the plan")
    settings(tmp_path, 'folder = "runs"\nproject = "a team"')
    assert find_ledger(exported, tmp_path) == LedgerPlace(tmp_path / "runs", "a team")


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"table ledger.*folders"):
        find_ledger({}, settings(tmp_path, 'folders = "runs"'))


def test_a_policy_may_hold_the_table(tmp_path: Path) -> None:
    """`check` reads the same file, and names a wrong key of it by its line."""
    job = '[jobs.net]\ntarget = "train.py:job"\nmax_usd = 5\n'
    (tmp_path / "trainfare.toml").write_text(f'{job}[ledger]\nfolder = "runs"\n')
    assert read_policy(None, tmp_path).policy.ledger.folder == "runs"
    (tmp_path / "trainfare.toml").write_text(f'{job}[ledger]\nfoldr = "runs"\n')
    with pytest.raises(InputError, match=r"trainfare.toml:5: \[ledger\]: unknown key 'foldr'.*folder"):
        read_policy(None, tmp_path)
