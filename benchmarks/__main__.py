"""Measure all that is promised about pytest-vbox, and what it is compared with.

    tools/with-virtualbox python -m benchmarks [--runs N] [--only NAME …] [--quick]

Writes the raw results, and from them the tables and the picture of docs/explanation/performance.md. With --quick
both stay as they are: the results go to a temporary folder. Takes about half an hour, on a computer that does
nothing else meanwhile.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks import cold, fork, many, page, plot, plugin_cost, suite
from benchmarks.common import RESULTS, Options, parser_of, read_results
from benchmarks.figures import figures, text_table

ALL: Final[dict[str, Callable[[Options], None]]] = {
    "plugin_cost": plugin_cost.measure,
    "many": many.measure,
    "cold": cold.measure,
    "fork": fork.measure,
    "suite": suite.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. Returns 1 if a benchmark could not be run; a bar that was missed is printed only."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ALL), default=list(ALL), help="run only these")
    given = parser.parse_args(arguments)
    options = Options.of(given)
    failed = []
    for name in given.only:
        print(f"== {name}", flush=True)
        try:
            ALL[name](options)
        except Exception:  # noqa: BLE001 - the others' figures are worth having all the same
            traceback.print_exc()
            failed.append(name)
    results, final = read_results(options.results), options.results.resolve() == RESULTS
    print(f"== figures (medians; raw results in {options.results})")
    print(text_table(figures(results)))
    if final:
        page.write()
    if page.can_be_drawn(results):
        plot.draw(results, plot.PICTURE if final else options.results / "benchmark.png")
    if failed:
        print(f"could not be run: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; all machines of the benchmarks are gone")
