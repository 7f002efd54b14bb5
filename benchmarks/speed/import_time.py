"""
How long `import trainfare` takes, in a fresh process, beside what it promises not to load.

    python -m benchmarks.speed.import_time [--json OUT]

The bar is 100 ms. The peer is `import pytorch_lightning` in the same run: the ratio travels between machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

RUNS = 7


def import_ms(module: str) -> float:
    """Median milliseconds of `import module`, measured inside fresh interpreters."""
    code = f"from time import perf_counter as now; t = now(); import {module}; print((now() - t) * 1e3)"
    command = [sys.executable, "-c", code]
    times = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(RUNS)
    ]
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ours, command_line, peer = (
        import_ms(name) for name in ("trainfare", "trainfare.cli", "pytorch_lightning")
    )
    cases = {
        "import trainfare": {"ours": ours, "peer": peer, "ratio": ours / peer, "unit": "ms"},
        "import trainfare.cli": {
            "ours": command_line,
            "peer": peer,
            "ratio": command_line / peer,
            "unit": "ms",
        },
    }
    print(f"{'case':<24}{'ours, ms':>12}{'pytorch_lightning, ms':>24}{'ratio':>10}")
    for name, case in cases.items():
        print(f"{name:<24}{case['ours']:>12.1f}{case['peer']:>24.1f}{case['ratio']:>10.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
