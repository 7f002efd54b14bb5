#!/usr/bin/env bash
# Install Debian's Chromium for the browser tests where it is missing. Never fatal: without it they are skipped.
set -u

readonly browser=/usr/bin/chromium
[ -x "$browser" ] && exit 0

skip() {
  echo "install_chromium: $1; the browser tests will be skipped" >&2
  exit 0
}

command -v apt-get >/dev/null 2>&1 || skip "no apt-get on this machine"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null || skip "not root, and no sudo without a password"
  as_root=(sudo -n)
fi

log=$(mktemp) || skip "no temporary file"
trap 'rm -f "$log"' EXIT
for attempt in 1 2 3; do
  if "${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 update >"$log" 2>&1 &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
      -o DPkg::Lock::Timeout=120 install chromium >>"$log" 2>&1 && [ -x "$browser" ]; then
    echo "install_chromium: installed $browser" >&2
    exit 0
  fi
  [ "$attempt" -lt 3 ] && sleep $((attempt * 5))
done
tail -n 3 "$log" >&2
skip "apt-get could not install chromium"
