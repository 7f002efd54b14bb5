"""Without either Lightning package; `tests/contract/test_three_environments.py` has the runs with one of them."""

from __future__ import annotations

import subprocess
import sys

from trainfare_core.installation import write_install_line

PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning", "pytorch_lightning"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from trainfare_core.errors import MissingExtraError
try:
    from trainfare import FareMeter
except MissingExtraError as error:
    print(error)
"""


def test_without_either_the_extra_is_named() -> None:
    """Where torch is there and Lightning is not, the error says what to install."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert write_install_line("lightning") in done.stdout, done.stderr
