"""The policy of a base, by which a change is judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainfare.policy.policy_file import PolicyFile, read_file
from trainfare.prices.run_cost_table import OWN_FILE, PROJECT_FILE
from trainfare_core.errors import InputError
from trainfare_core.policy.policy import Policy
from trainfare_core.policy.policy_change import PolicyChange, list_policy_changes, rule_by_base


@dataclass(frozen=True, slots=True)
class BaseTree:
    """
    The files of a base: its policy, its lock and its own prices.

    Attributes:
        label: what a message calls the base.
        root: the folder of the change, resolved.
        copy: the folder of the base.
    """

    label: str
    root: Path
    copy: Path

    def copy_of(self, path: Path) -> Path | None:
        """Return where the base has a file of the change, if it has it; None for one outside the folder."""
        resolved = path.resolve()
        return self.copy / resolved.relative_to(self.root) if resolved.is_relative_to(self.root) else None

    def find(self, path: Path) -> Path | None:
        """Return the base's file in the place of one of the change; None where it has none."""
        copy = self.copy_of(path)
        return copy if copy is not None and copy.is_file() else None


@dataclass(frozen=True, slots=True)
class Ruling:
    """
    What a change is judged by.

    Attributes:
        policy: the base's, with the targets and the new jobs of the change.
        files: where the lock and the own prices that it names are.
        changes: what the change does to the policy.
        notes: sentences for the reader.
    """

    policy: Policy
    files: PolicyFile
    changes: tuple[PolicyChange, ...] = ()
    notes: tuple[str, ...] = ()


def rule_policy(file: PolicyFile, tree: BaseTree | None) -> Ruling:
    """
    Return what a change is judged by: the policy of its base where that has one, else its own, which is said.

    Args:
        file: the policy of the change.
        tree: the files of the base; None where there is no base.
    """
    if tree is None:
        return Ruling(file.policy, file)
    try:
        base = _find_policy(tree, file.path)
    except InputError as error:
        why = str(error).replace(f"{tree.copy}/", "")
        change = PolicyChange(f"the policy of {tree.label} cannot be read ({why})", "looser")
        return Ruling(file.policy, file, (change,))
    if base is None:
        note = f"{tree.label} has no policy: the limits are those of this change"
        return Ruling(file.policy, file, notes=(note,))
    changes = list_policy_changes(base.policy, file.policy)
    name = base.policy.own_prices
    if name is not None and name == file.policy.own_prices and _differ(base.beside(name), file.beside(name)):
        changes = (*changes, PolicyChange(f"this change alters the own prices in {name}", "looser"))
    return Ruling(rule_by_base(base.policy, file.policy), base, changes)


def _find_policy(tree: BaseTree, path: Path) -> PolicyFile | None:
    """Return the base's policy: the file of the same name, or the other one in its folder."""
    copy = tree.copy_of(path)
    if copy is None:
        return None
    names = dict.fromkeys((path.name, OWN_FILE, PROJECT_FILE))
    policies = (read_file(copy.with_name(name)) for name in names if copy.with_name(name).is_file())
    return next((policy for policy in policies if policy is not None), None)


def _differ(base: Path, head: Path) -> bool:
    contents = [path.read_bytes() if path.is_file() else None for path in (base, head)]
    return contents[0] != contents[1]
