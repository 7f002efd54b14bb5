"""
Write a software bill of materials (CycloneDX) of the packages that an environment with trainfare has.

    python scripts/sbom.py ENVIRONMENT -o trainfare.cdx.json

ENVIRONMENT is a virtual environment into which the wheel with the extra `all` was installed, and nothing else. The exit
status is 1 where a runtime dependency of pyproject.toml is not among the components.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).resolve().parents[1]


def runtime_dependencies() -> set[str]:
    """Return the names of the dependencies, and of those of the extra `all`, that hold on this Python."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (everything,) = (Requirement(line) for line in extras["all"])
    lines = [*project["dependencies"], *(line for extra in everything.extras for line in extras[extra])]
    needed = [Requirement(line) for line in lines]
    return {
        canonicalize_name(requirement.name)
        for requirement in needed
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }


def main() -> int:
    """Write the bill, then compare it with the dependencies; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("environment", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    subprocess.run(  # noqa: S603 - this interpreter
        [
            sys.executable, "-m", "cyclonedx_py", "environment", str(args.environment), "--mc-type", "library",
            "--pyproject", str(TOP / "pyproject.toml"), "--output-reproducible", "--validate", "-o", str(args.output),
        ],
        check=True,
    )  # fmt: skip
    components = json.loads(args.output.read_text(encoding="utf-8"))["components"]
    missing = sorted(
        runtime_dependencies() - {canonicalize_name(component["name"]) for component in components}
    )
    if missing:
        sys.stderr.write(f"{args.output}: without {', '.join(missing)}: not in {args.environment}\n")
        return 1
    sys.stdout.write(f"wrote {args.output}: {len(components)} components\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
