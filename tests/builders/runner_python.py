"""The Python that a CI system sets up for a job, whose virtual environments have what the tests have installed."""

from __future__ import annotations

from pathlib import Path

from builders.environments import lean_python

_PYTHON = """\
#!/bin/sh
# Makes no environment and installs nothing, which takes minutes: notes what is to be installed and runs the tests' own.
case "$*" in
  "-I -m venv "*)
    for folder; do :; done
    mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" ;;
  "-I -m pip install "*)
    shift 4
    for word; do
      echo "$word" >> {installed}
      if [ "$before" = --requirement ] && [ ! -f "$word" ]; then echo "no file $word"; exit 1; fi
      before=$word
    done ;;
  *) exec {python} "$@" ;;
esac
"""


def put_python(folder: Path) -> Path:
    """
    Write a `python` into a folder, for the PATH of a job; what it was asked to install is in `installed.txt` beside it.

    Its `-m venv FOLDER` makes another one of its kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "python"
    python.write_text(
        _PYTHON.format(installed=folder / "installed.txt", python=lean_python()), encoding="utf-8"
    )
    python.chmod(0o755)
    return folder
