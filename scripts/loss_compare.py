"""
Train each scenario with and without FareMeter and compare the results bit by bit.

    python scripts/loss_compare.py                 # every scenario
    python scripts/loss_compare.py ddp bf16

Exit code 0: losses, batch order, weights, optimizer state and random generators are bitwise equal. Exit code 1: not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from builders.bitwise import SCENARIOS, arm


def main() -> None:
    """Compare the scenarios named on the command line; all without arguments."""
    different = 0
    for scenario in sys.argv[1:] or SCENARIOS:
        with tempfile.TemporaryDirectory() as plain_dir, tempfile.TemporaryDirectory() as metered_dir:
            plain = arm([scenario], Path(plain_dir), meter=False)[scenario]
            metered = arm([scenario], Path(metered_dir), meter=True)[scenario]
        wrong = [name for name in plain if plain[name] != metered[name]]
        different += bool(wrong)
        sys.stdout.write(f"{scenario:<24}{'differs in ' + ', '.join(wrong) if wrong else 'bitwise equal'}\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
