"""
Does the suite bite? Break the price sources on purpose, one way after another, and see a test turn red each time.

    python scripts/mutants.py [WORD ...]     # only the mutants whose name holds a word

Each mutant is a change of one place in a copy of the sources, and the tests that must notice. Ends with 1 if one lives.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
ROOMS = ("core", "providers", "plugin")
PROVIDERS = "providers/trainfare_providers"


@dataclass(frozen=True)
class Mutant:
    """In `file`, `old` (there once) becomes `new`; `tests` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "no fsync of the content",
        f"{PROVIDERS}/disk/files.py",
        "            file.flush()\n            sync(file.fileno())\n",
        "",
        "tests/faults/test_cache.py -k power_cut",
    ),
    Mutant(
        "write in place",
        f"{PROVIDERS}/disk/files.py",
        'temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")',
        "temporary = path; path.unlink(missing_ok=True)",
        "tests/faults/test_cache.py -k kill",
    ),
    Mutant(
        "checksum not compared",
        f"{PROVIDERS}/disk/seal.py",
        "hasher.digest() != content[digest_at:end_at]",
        "False",
        "tests/faults/test_cache.py -k bit",
    ),
    Mutant(
        "follow links in the cache",
        f"{PROVIDERS}/disk/files.py",
        '"O_NOFOLLOW", ',
        "",
        "tests/faults/test_cache.py -k damage",
    ),
    Mutant(
        "headers go along to another host",
        f"{PROVIDERS}/http/answer.py",
        "self.headers if same_origin(self.url, url) else None",
        "self.headers",
        "tests/faults/test_http.py -k another_host",
    ),
    Mutant(
        "redirects to http",
        f"{PROVIDERS}/http/addresses.py",
        "if why_refused(target) or downgrade or not same_site(url, target):",
        "if why_refused(target) or not same_site(url, target):",
        "tests/faults/test_web_addresses.py -k lead",
    ),
    Mutant(
        "try a 404 again",
        f"{PROVIDERS}/http/retry.py",
        "frozenset({408, 429,",
        "frozenset({404, 408, 429,",
        "tests/faults/test_retry_policy.py",
    ),
    Mutant(
        "Retry-After as long as it likes",
        f"{PROVIDERS}/http/retry.py",
        "RETRY_AFTER_CAP_S: Final = 10.0",
        "RETRY_AFTER_CAP_S: Final = 1e12",
        "tests/faults/test_table.py -k longer",
    ),
    Mutant(
        "no end to trouble",
        f"{PROVIDERS}/http/outlet.py",
        "            or self._lost_s + wait_s >= self._trouble_s\n",
        "",
        "tests/faults/test_http.py -k waits_add",
    ),
    Mutant(
        "no deadline while the body comes",
        f"{PROVIDERS}/http/answer.py",
        '        if left <= 0:\n            raise question.fault("too slow")\n',
        "        left = max(left, 0.1)\n",
        "tests/faults/test_table.py -k 'slow and body'",
    ),
    Mutant(
        "no cap on the body",
        f"{PROVIDERS}/http/answer.py",
        "if size > max_bytes:",
        "if size < 0:",
        "tests/faults/test_table.py -k bomb",
    ),
    Mutant(
        "NaN in JSON",
        f"{PROVIDERS}/http/strict_json.py",
        "            parse_constant=_no_constant,\n",
        "",
        "tests/faults/test_table.py -k NaN",
    ),
    Mutant(
        "an error object passes",
        f"{PROVIDERS}/http/answer.py",
        "if any(found.get(name) for name in _ERROR_NAMES):",
        "if False:",
        "tests/faults/test_table.py -k 'error and object'",
    ),
    Mutant(
        "a key is shown",
        f"{PROVIDERS}/http/addresses.py",
        "'***' if _SECRET_NAME.search(name) else",
        "",
        "tests/faults/test_secrets.py",
    ),
    Mutant(
        "foreign logs are heard",
        f"{PROVIDERS}/http/exchange.py",
        "return record.threadName != _THREAD_NAME",
        "return True",
        "tests/faults/test_secrets.py -k success",
    ),
    Mutant(
        "a failed refresh dates prices anew",
        f"{PROVIDERS}/refresh.py",
        "        return _kept(source.name, last, str(error))\n",
        "        cache.write(source.name, last.book.frame, replace(last, facts=last.facts.model_copy("
        'update={"fetched_at": now})).facts) if last else None\n'
        "            return _kept(source.name, cache.read(source.name), str(error))\n",
        "tests/providers/test_refresh.py -k failed_refresh",
    ),
    Mutant(
        "parsers' counts are swallowed",
        f"{PROVIDERS}/refresh.py",
        "more = sum(tally.rows for tally in (*part.filtered, *part.quarantined))",
        "more = 0; part = replace(part, filtered=(), quarantined=())",
        "tests/providers/test_refresh.py -k first_refresh",
    ),
    Mutant(
        "half an answer replaces a whole one",
        f"{PROVIDERS}/sanity.py",
        "if new.height < _MIN_ROWS_KEPT * old.height:",
        "if new.height < 0:",
        "tests/providers/test_sanity.py tests/providers/test_refresh.py -k replace",
    ),
    Mutant(
        "spot above on demand",
        f"{PROVIDERS}/sanity.py",
        "_more_for_less(_above_on_demand(judged, known))",
        "_more_for_less(judged)",
        "tests/providers/test_sanity.py -k spot",
    ),
    Mutant(
        "jumps are believed at once",
        f"{PROVIDERS}/sanity.py",
        "~_within(\"usd_per_hour_last\", MAX_JUMP) & ~confirmed, JUMPED",
        "pl.lit(value=False), JUMPED",
        "tests/providers/test_sanity.py -k jump",
    ),
    Mutant(
        "first price wins",
        "core/trainfare_core/prices/intake.py",
        '.then(pl.lit("two different prices for one machine, region, zone and option"))',
        ".then(pl.lit(None, dtype=pl.String))",
        "tests/core/prices/test_intake.py",
    ),
    Mutant(
        "NaN is a price",
        "core/trainfare_core/prices/intake.py",
        "~(price.is_finite() & (price > 0)).fill_null(value=False)",
        "(price <= 0).fill_null(value=True)",
        "tests/core/prices/test_intake.py",
    ),
)  # fmt: skip


def lives(mutant: Mutant) -> bool:
    """Return whether the tests pass in spite of the mutant."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for room in ROOMS:
            shutil.copytree(TOP / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / mutant.file
        file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        words = shlex.split(mutant.tests)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *words]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(copy / room) for room in ROOMS)}
        result = subprocess.run(  # noqa: S603 - the commands above
            command, cwd=TOP, env=environment, capture_output=True, text=True, check=False
        )
    if result.returncode not in (0, 1):
        sys.stderr.write(result.stdout[-2000:] + result.stderr[-2000:])
        raise SystemExit(f"{mutant.name}: its tests did not run")
    return result.returncode == 0


def main() -> None:
    """Try the mutants that the arguments name, or all."""
    wanted = [one for one in MUTANTS if not sys.argv[1:] or any(word in one.name for word in sys.argv[1:])]
    alive = 0
    for mutant in wanted:
        survived = lives(mutant)
        alive += survived
        sys.stdout.write(f"{'LIVES ' if survived else 'caught'}  {mutant.name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(wanted) - alive} of {len(wanted)} mutants caught\n")
    sys.exit(alive > 0)


if __name__ == "__main__":
    main()
