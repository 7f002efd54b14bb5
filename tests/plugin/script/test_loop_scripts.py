"""What loops do with scripts is found without their frameworks, and what runs a script loads no torch before it."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, sys
import trainfare.script.run
from trainfare.loops import list_scripts

FRAMEWORKS = ("torch", "lightning", "pytorch_lightning", "transformers", "accelerate", "keras")

def list_loaded():
    return [name for name in FRAMEWORKS if name in sys.modules]

answers = [list_loaded(), [home for home, _ in list_scripts()]]
from trainfare.script.loop_scripts import find_script_of_config, load_scripts
answers += [len(load_scripts()), list_loaded(), find_script_of_config("train.py:make_job")]
print(json.dumps(answers))
"""


def test_scripts_of_every_loop_are_found_without_its_framework() -> None:
    """The last registered is asked first; torch is loaded where a script of a loop is."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = ("plain_loop.script", "keras.script", "huggingface.script", "lightning.script.interception")
    homes = [f"trainfare.{name}" for name in names]
    assert json.loads(done.stdout) == [[], homes, 4, ["torch"], None]
