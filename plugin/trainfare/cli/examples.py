"""Two examples of each command, which its `--help` ends with; a test parses them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "demo": ("trainfare demo", "trainfare demo --directory reports"),
    "profile": (
        "trainfare profile train.py -o job.json -- --epochs 3",
        "trainfare profile --module package.train -o job.json",
    ),
    "predict": (
        "trainfare predict job.json --on H100-SXM-80GB --devices 8",
        "trainfare predict train.py --on A100 --nodes 2 --network-gbit 400",
    ),
    "recommend": (
        "trainfare recommend train.py -- --epochs 3",
        "trainfare recommend job.json --max-usd 500 --deadline 24h --purchase spot",
    ),
    "estimate": (
        "trainfare estimate --model gpt2 --tokens 10B --seq 1024 --batch 64",
        "trainfare estimate --model llama-3.1-8b --method lora --tokens 100M --seq 2048",
    ),
    "why": ("trainfare why p4d.24xlarge job.json", "trainfare why H100 train.py --max-usd 100"),
    "export": (
        "trainfare export answer.json --to skypilot -o task.yaml",
        "trainfare export answer.json --to torchrun",
    ),
    "check": (
        "trainfare check train.py --max-usd 500 --deadline 24h",
        "trainfare check --compare-to origin/main --output markdown=comment.md",
    ),
    "comment": ("trainfare comment comment.md", "trainfare comment comment.md --key nightly"),
    "offers": (
        "trainfare offers --accelerator H100 --purchase spot",
        "trainfare offers --why aws:p5.48xlarge@us-east-1",
    ),
    "strategy": (
        "trainfare strategy train.py --domain nlp-glue --checkpoint related",
        "trainfare strategy --pilot lora=lora.json --pilot scratch=scratch.json",
    ),
    "prices status": ("trainfare prices status", "trainfare prices status --lock trainfare.lock"),
    "prices update": ("trainfare prices update", "trainfare prices update --provider aws,azure"),
    "prices verify": ("trainfare prices verify", "trainfare prices verify --lock trainfare.lock"),
    "prices lock": (
        "trainfare prices lock -o trainfare.lock",
        "trainfare prices lock --provider aws --max-price-age-days 90",
    ),
    "prices quotas": (
        "trainfare prices quotas -o quotas.toml",
        "trainfare prices quotas --provider aws -o quotas.toml",
    ),
    "decline forecast": (
        "trainfare decline forecast --cost 2000 --date 2026 --until 2030",
        "trainfare decline forecast --series costs.csv --law wright --until 2030",
    ),
    "decline wait": (
        "trainfare decline wait --cost 1e6 --value-per-month 5e4",
        "trainfare decline wait --cost 2000 --value-per-month 100 --format json",
    ),
    "decline decompose": (
        "trainfare decline decompose --from 2022,1e23,2,312,.4 --to 2025,5e22,2,990,.4",
        "trainfare decline decompose --from 2023,1e23,2,312,.4 --to 2025,1e23,2,990,.3",
    ),
    "decline claims": ("trainfare decline claims", "trainfare decline claims --format json"),
    "doctor": ("trainfare doctor", "trainfare doctor --online --format json"),
}
"""By the words that name a command; a line has at most 80 columns, as a terminal."""


def epilog_of(command: str) -> str:
    """Return what the help of a command ends with."""
    return "\n".join(("Examples:", *(f"  {example}" for example in EXAMPLES[command])))
