"""Writes docs/reliability.md from docs/reliability.json: each promise, its tests, how often they ran.

    python tools/reliability.py            the page anew
    python tools/reliability.py RECORD     take over what tests wrote to RECORD (RELIABILITY=RECORD pytest …) first

A line of the record is a test that passed: its id, and how many times it tried what it is about.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).resolve().parents[1] / "docs"
DATA, PAGE = _DOCS / "reliability.json", _DOCS / "reliability.md"
_HEAD = """# What is promised, and how often it was tried

Whatever dies, and whenever: within a minute no machine, disk, port, lock, process or secret of the run is left,
and no base image and no machine of yours has been touched. [How it
works](explanation/how-it-works.md#nothing-is-left-behind) says by what means, and [who is trusted with
what](explanation/threat-model.md) whom it keeps out. Here is what was tried, against real VirtualBox; only the
tests in `tests/unit` have a stand-in for it.

A *time* is one death, one failed call, one full disk, one hostile guest: after each of them somebody looked for
machines, disks, processes and files that were left. The steps at which something dies are not a list somebody
made: they are the calls that a machine's life makes, as a proxy between pytest-vbox and VirtualBox sees them.
`make test` tries some of them, `make soak` all.

| promise | shown by | times | left behind |
|---|---|---|---|
"""
_FOOT = """
The numbers are those of the last `make soak`, or of `make test` for what that has not run yet;
`tools/reliability.py` writes this page, and a test sees that it is true to its data and that each test named
exists. The long mix (`tests/integration/test_soak.py`, in `make soak`) logs its seed:
`SOAK_SEED=… SOAK_SECONDS=600` plays the same dice again.

What it finds is mended, and gets a test of its own. A mix of 128 rounds found the folder of a golden machine whose
run was killed while it removed it. Since then there were 523 rounds in three runs, on 2026-12-01: nothing was left
but, once, the process of a machine that took a moment longer to end than its machine.
"""


def load() -> list[dict[str, Any]]:
    """The promises."""
    promises: list[dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))
    return promises


def page(promises: list[dict[str, Any]]) -> str:
    """The page."""
    rows = []
    for promise in promises:
        tests = ", ".join(f"`{test}`" for test in promise["tests"])
        cells = (promise["promise"], tests, str(promise["times"]), str(promise["left"] or "nothing"))
        rows.append(f"| {' | '.join(cells)} |\n")
    return _HEAD + "".join(rows) + _FOOT


def take_over(promises: list[dict[str, Any]], record: Path) -> None:
    """Put the numbers of a record into the promises."""
    # The last time counts where a test ran again.
    last = {
        entry["test"]: entry["times"] for entry in map(json.loads, record.read_text(encoding="utf-8").splitlines())
    }
    times: Counter[str] = Counter()
    for test, tried in last.items():
        times[re.sub(r"\[.*", "", test, flags=re.DOTALL)] += tried
    for promise in promises:
        tried = sum(times[test] for test in promise["tests"])
        if tried:
            promise["times"] = tried


def main() -> None:
    promises = load()
    if len(sys.argv) > 1:
        take_over(promises, Path(sys.argv[1]))
        DATA.write_text(json.dumps(promises, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(promises), encoding="utf-8")


if __name__ == "__main__":
    main()
