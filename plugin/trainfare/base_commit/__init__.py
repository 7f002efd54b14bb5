"""
The commit that a change is compared with: found by git, checked out beside the working tree, and removed again.

`list_changed_dependencies` names the files by which the environment of the one commit may not suit the other.
"""

from trainfare.base_commit.dependencies import list_changed_dependencies
from trainfare.base_commit.repository import Commit, Repository

__all__ = ["Commit", "Repository", "list_changed_dependencies"]
