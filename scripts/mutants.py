"""
Mutation test of the price sources, the run-cost facts and the ways a command ends: each mutant breaks one place in a
copy of the sources, and its tests must fail.

    python scripts/mutants.py [WORD ...]     # only the mutants whose name contains one of the words

The exit status is 1 if the tests of some mutant pass.
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
    """In `file`, `old` (which occurs once) becomes `new`; the tests of the arguments `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "content is not flushed to the disk",
        f"{PROVIDERS}/disk/files.py",
        "            file.flush()\n            sync(file.fileno())\n",
        "",
        "tests/faults/test_cache.py -k power_cut",
    ),
    Mutant(
        "file is written in place",
        f"{PROVIDERS}/disk/files.py",
        'temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")',
        "temporary = path; path.unlink(missing_ok=True)",
        "tests/faults/test_cache.py -k kill",
    ),
    Mutant(
        "checksum is not compared",
        f"{PROVIDERS}/disk/checked_parquet.py",
        "hasher.digest() != content[digest_at:end_at]",
        "False",
        "tests/faults/test_cache.py -k bit",
    ),
    Mutant(
        "links in the cache are followed",
        f"{PROVIDERS}/disk/files.py",
        '"O_NOFOLLOW", ',
        "",
        "tests/faults/test_cache.py -k damage",
    ),
    Mutant(
        "headers are sent to another host",
        f"{PROVIDERS}/http/answer.py",
        "self.headers if same_origin(self.url, url) else None",
        "self.headers",
        "tests/faults/test_http.py -k another_host",
    ),
    Mutant(
        "redirects from https to http are followed",
        f"{PROVIDERS}/http/addresses.py",
        "if why_refused(target) or downgrade or not same_site(url, target):",
        "if why_refused(target) or not same_site(url, target):",
        "tests/faults/test_web_addresses.py -k lead",
    ),
    Mutant(
        "status 404 is retried",
        f"{PROVIDERS}/http/retry.py",
        "frozenset({408, 429,",
        "frozenset({404, 408, 429,",
        "tests/faults/test_retry_policy.py",
    ),
    Mutant(
        "Retry-After has no limit",
        f"{PROVIDERS}/http/retry.py",
        "RETRY_AFTER_CAP_S: Final = 10.0",
        "RETRY_AFTER_CAP_S: Final = 1e12",
        "tests/faults/test_table.py -k longer",
    ),
    Mutant(
        "failed attempts have no time limit",
        f"{PROVIDERS}/http/client.py",
        "            or self._failed_s + wait_s >= self._allowed_failed_s\n",
        "",
        "tests/faults/test_http.py -k waits_add",
    ),
    Mutant(
        "body has no deadline",
        f"{PROVIDERS}/http/answer.py",
        '        if left <= 0:\n            raise request.fault("too slow")\n',
        "        left = max(left, 0.1)\n",
        "tests/faults/test_table.py -k 'slow and body'",
    ),
    Mutant(
        "body has no size limit",
        f"{PROVIDERS}/http/answer.py",
        "if size > max_bytes:",
        "if size < 0:",
        "tests/faults/test_table.py -k bomb",
    ),
    Mutant(
        "NaN is accepted in JSON",
        f"{PROVIDERS}/http/strict_json.py",
        "            parse_constant=_no_constant,\n",
        "",
        "tests/faults/test_table.py -k NaN",
    ),
    Mutant(
        "error object is accepted",
        f"{PROVIDERS}/http/answer.py",
        "if any(found.get(name) for name in _ERROR_NAMES):",
        "if False:",
        "tests/faults/test_table.py -k 'error and object'",
    ),
    Mutant(
        "key is shown in a URL",
        f"{PROVIDERS}/http/addresses.py",
        "'***' if _SECRET_NAME.search(name) else",
        "",
        "tests/faults/test_secrets.py",
    ),
    Mutant(
        "HTTP libraries log our requests",
        f"{PROVIDERS}/http/exchange.py",
        "return record.threadName != _THREAD_NAME",
        "return True",
        "tests/faults/test_secrets.py -k success",
    ),
    Mutant(
        "failed refresh resets the age of prices",
        f"{PROVIDERS}/refresh.py",
        "            return _kept(RefreshResult(False, 0, None, problem=str(error)), last)\n",
        "            cache.write(source.name, last.book.frame, last.facts.model_copy("
        'update={"fetched_at": now})) if last else None\n'
        "            last = cache.read(source.name)\n"
        "            return _kept(RefreshResult(False, 0, None, problem=str(error)), last)\n",
        "tests/providers/test_refresh.py -k failed_refresh",
    ),
    Mutant(
        "counts of the parsers are lost",
        f"{PROVIDERS}/refresh.py",
        "more = sum(tally.rows for tally in (*part.filtered, *part.quarantined))",
        "more = 0; part = replace(part, filtered=(), quarantined=())",
        "tests/providers/test_refresh.py -k first_refresh",
    ),
    Mutant(
        "half a price list replaces a complete one",
        f"{PROVIDERS}/sanity.py",
        "if new.height < _MIN_ROWS_KEPT * old.height:",
        "if new.height < 0:",
        "tests/providers/test_sanity.py tests/providers/test_refresh.py -k replace",
    ),
    Mutant(
        "spot price above on demand is accepted",
        f"{PROVIDERS}/sanity.py",
        "_more_for_less(_beside_on_demand(judged, known))",
        "_more_for_less(judged)",
        "tests/providers/test_sanity.py -k spot",
    ),
    Mutant(
        "price jump is accepted without confirmation",
        f"{PROVIDERS}/sanity.py",
        "~_within(\"usd_per_hour_last\", MAX_JUMP) & ~confirmed, JUMPED",
        "pl.lit(value=False), JUMPED",
        "tests/providers/test_sanity.py -k jump",
    ),
    Mutant(
        "first of two different prices is kept",
        "core/trainfare_core/prices/intake.py",
        '.then(pl.lit("two different prices for one machine, region, zone and option"))',
        ".then(pl.lit(None, dtype=pl.String))",
        "tests/core/prices/test_intake.py",
    ),
    Mutant(
        "NaN is accepted as a price",
        "core/trainfare_core/prices/intake.py",
        "~(price.is_finite() & (price > 0)).fill_null(value=False)",
        "(price <= 0).fill_null(value=True)",
        "tests/core/prices/test_intake.py",
    ),
    Mutant(
        "price of another region is used",
        "core/trainfare_core/run_cost_facts/table.py",
        "fitting = here or everywhere\n",
        "fitting = here or everywhere or list(rows)\n",
        "tests/core/run_cost_facts/test_table.py tests/core/run_cost_facts/test_transfer.py",
    ),
    Mutant(
        "weak row outweighs one without a mark",
        "core/trainfare_core/run_cost_facts/table.py",
        "return row.weak is None, ",
        "return row.weak is not None, ",
        "tests/core/run_cost_facts/test_table.py tests/core/run_cost_facts/test_storage.py",
    ),
    Mutant(
        "every GB costs what the last tier says",
        "core/trainfare_core/run_cost_facts/answers.py",
        "min(gb, end) - tier.from_gb",
        "gb - tier.from_gb",
        "tests/core/run_cost_facts/test_transfer.py",
    ),
    Mutant(
        "SageMaker's other terms pass",
        f"{PROVIDERS}/aws/price_list.py",
        'if record.termtype != "OnDemand":\n        return Refused("not an on-demand price")',
        'if False:\n        return Refused("not an on-demand price")',
        "tests/providers/test_mislabelled.py -k sagemaker",
    ),
    Mutant(
        'on-demand price may have a term',
        f"{PROVIDERS}/aws/price_list.py",
        'if record.termtype == "OnDemand" and (record.leasecontractlength or record.purchaseoption):',
        'if False:',
        "tests/providers/test_mislabelled.py -k ec2",
    ),
    Mutant(
        'AWS price holds before it begins',
        f"{PROVIDERS}/aws/price_list.py",
        'if day > context.today:',
        'if False:',
        "tests/providers/test_mislabelled.py -k ec2",
    ),
    Mutant(
        'savings plan rate holds before it begins',
        f"{PROVIDERS}/aws/savings.py",
        'if day > context.today:',
        'if False:',
        "tests/providers/test_mislabelled.py -k begun",
    ),
    Mutant(
        'savings plan may be paid upfront',
        f"{PROVIDERS}/aws/savings.py",
        'return None if rate.purchaseoption == "No Upfront" else "a plan that is paid upfront"',
        'return None',
        "tests/providers/test_mislabelled.py -k savings",
    ),
    Mutant(
        'first of several GCP tiers is taken',
        f"{PROVIDERS}/gcp/skus.py",
        'rate = object_of(rates[0]) if len(rates) == 1 else None',
        'rate = object_of(rates[0]) if rates else None',
        "tests/providers/test_mislabelled.py -k google",
    ),
    Mutant(
        'GCP price for large amounts only is taken',
        f"{PROVIDERS}/gcp/skus.py",
        'rate is None or number_of(rate.get("startUsageAmount", 0)) != 0',
        'rate is None',
        "tests/providers/test_mislabelled.py -k google",
    ),
    Mutant(
        'GCP price in another currency is taken',
        f"{PROVIDERS}/gcp/skus.py",
        'if money.get("currencyCode") != "USD":',
        'if False:',
        "tests/providers/test_mislabelled.py -k google",
    ),
    Mutant(
        "Windows is looked for in Azure's product name only",
        f"{PROVIDERS}/azure/meters.py",
        'any(_WINDOWS.search(label) for label in labels)',
        '_WINDOWS.search(product) is not None',
        "tests/providers/test_mislabelled.py -k azure",
    ),
    Mutant(
        'licences of other systems pass',
        f"{PROVIDERS}/azure/meters.py",
        'any(_LICENSED.search(label) for label in labels)',
        'False',
        "tests/providers/test_mislabelled.py -k azure",
    ),
    Mutant(
        'dev/test is known by its type only',
        f"{PROVIDERS}/azure/meters.py",
        'kind == "DevTestConsumption"\n        or any(_DEV_TEST.search(label) for label in labels)',
        'kind == "DevTestConsumption"',
        "tests/providers/test_mislabelled.py -k azure",
    ),
    Mutant(
        'committed price may be a ten-thousandth',
        f"{PROVIDERS}/sanity.py",
        'return _mark(marked, committed & below, COMMITTED_BELOW).drop("_on_demand")',
        'return marked.drop("_on_demand")',
        "tests/providers/test_mislabelled.py -k azure",
    ),
    Mutant(
        'committed price may be above on demand',
        f"{PROVIDERS}/sanity.py",
        'marked = _mark(marked, committed & above, COMMITTED_ABOVE)',
        'pass',
        "tests/providers/test_mislabelled.py -k azure",
    ),
    Mutant(
        'file of another ETag goes on',
        "providers/trainfare_providers/http/download.py",
        "_field(head, name) == version.validator",
        'True',
        'tests/faults/test_download.py',
    ),
    Mutant(
        'another Content-Range is accepted',
        "providers/trainfare_providers/http/download.py",
        'and tuple(map(int, said.groups())) == (offset, whole - 1, whole)\n',
        '\n',
        'tests/faults/test_download.py',
    ),
    Mutant(
        'weak ETag is a version',
        "providers/trainfare_providers/http/download.py",
        're.fullmatch(r\'"[^',
        're.fullmatch(r\'(?:W/)?"[^',
        'tests/faults/test_download.py',
    ),
    Mutant(
        'whole answer is taken for the rest',
        "providers/trainfare_providers/http/download.py",
        "self._skip_bytes = self._offset",
        "self._skip_bytes = 0",
        'tests/faults/test_download.py',
    ),
    Mutant(
        'resumes have no end',
        "providers/trainfare_providers/http/download.py",
        ' or self._resumes >= _MAX_RESUMES',
        '',
        'tests/faults/test_download.py',
    ),
    Mutant(
        'part is not checked',
        "providers/trainfare_providers/disk/part_files.py",
        'hasher.hexdigest() != facts.sha256 or ',
        '',
        'tests/faults/test_download.py',
    ),
    Mutant(
        'connecting has no limit of its own',
        "providers/trainfare_providers/http/answer.py",
        'if self._exchange.connecting and',
        'if False and',
        'tests/faults/test_http.py -k black_hole',
    ),
    Mutant(
        'cloud that never answered is given as long as any',
        "providers/trainfare_providers/http/client.py",
        'return self._max_failed_s if self.answered else min(self._max_failed_s, self._max_unanswered_s)',
        'return self._max_failed_s',
        'tests/faults/test_http.py -k dead_cloud',
    ),
    Mutant(
        'hanging cloud is waited for',
        "providers/trainfare_providers/update.py",
        'if index not in found and run.is_silent(monotonic()):',
        'if False:',
        'tests/providers/test_update.py -k foreign',
    ),
    Mutant(
        'clouds run in threads that keep the process',
        "providers/trainfare_providers/update.py",
        'name=f"trainfare-update-{run.name}", daemon=True',
        'name=f"trainfare-update-{run.name}"',
        'tests/providers/test_update.py -k ctrl',
    ),
    Mutant(
        'JSON has progress',
        "plugin/trainfare/cli/update_progress.py",
        '    if quiet:',
        '    if False:',
        'tests/plugin/cli/test_update_progress.py',
    ),
    Mutant(
        "what a TARGET started outlives it",
        "plugin/trainfare/user_process/process.py",
        "os.killpg(process.pid, signal.SIGKILL)",
        "pass",
        "tests/plugin/cli/test_streams.py -k ctrl_c_ends_a_target",
    ),
    Mutant(
        "a TARGET outlives a command that is killed",
        "plugin/trainfare/user_process/child.py",
        "threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()",
        "waiting.put(b'{}')",
        "tests/plugin/user_process/test_hostile_targets.py -k ends_with_the_command",
    ),
    Mutant(
        "a TARGET prints to standard output",
        "plugin/trainfare/user_process/child.py",
        "    os.dup2(2, 1)\n",
        "",
        "tests/plugin/user_process/test_hostile_targets.py -k honest",
    ),
    Mutant(
        "a TARGET without an answer is waited for",
        "plugin/trainfare/user_process/process.py",
        "elif self._clock() > until:",
        "elif False:",
        "tests/plugin/user_process/test_user_process.py -k clock",
    ),
    Mutant(
        "the process that runs a TARGET names an exit code",
        "plugin/trainfare/user_process/messages.py",
        "known.get(reply.error, TargetError)",
        "known.get(reply.error, InternalError)",
        "tests/plugin/user_process/test_user_process.py -k unknown_class",
    ),
    Mutant(
        "a defect of ours ends as the command-line library ends it",
        "plugin/trainfare/cli/__init__.py",
        "except (EOFError, OSError, typer.Abort) as error:",
        "except ZeroDivisionError as error:",
        "tests/plugin/cli/test_streams.py -k defect",
    ),
    Mutant(
        "a reader that stops is an error",
        "plugin/trainfare/cli/streams.py",
        "except BrokenPipeError:",
        "except BlockingIOError:",
        "tests/plugin/cli/test_streams.py -k reader_that_stops",
    ),
    Mutant(
        "a full standard error ends a command",
        "plugin/trainfare/cli/streams.py",
        "except OSError:\n            return len(memoryview(data))",
        "except ZeroDivisionError:\n            return len(memoryview(data))",
        "tests/plugin/cli/test_streams.py -k change_nothing",
    ),
    Mutant(
        "JSON loses characters that the terminal lacks",
        "plugin/trainfare/cli/streams.py",
        'char.encode("utf-16-be", "surrogatepass")',
        'char.encode("utf-32-be", "surrogatepass")',
        "tests/plugin/cli/test_streams.py -k stays_the_same_document",
    ),
    Mutant(
        "Ctrl-C waits for threads",
        "plugin/trainfare/cli/interrupt.py",
        "    last.start()\n",
        "",
        "tests/plugin/cli/test_streams.py -k threads_wait",
    ),
)  # fmt: skip


def survives(mutant: Mutant) -> bool:
    """Return whether the tests pass with the mutant in place."""
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
    """Run the mutants that the arguments name, or all."""
    wanted = [one for one in MUTANTS if not sys.argv[1:] or any(word in one.name for word in sys.argv[1:])]
    alive = 0
    for mutant in wanted:
        survived = survives(mutant)
        alive += survived
        sys.stdout.write(f"{'ALIVE ' if survived else 'caught'}  {mutant.name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(wanted) - alive} of {len(wanted)} mutants caught\n")
    sys.exit(alive > 0)


if __name__ == "__main__":
    main()
