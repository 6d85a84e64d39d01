"""Sums up the log of the backend's profiler: the kernels that took the most time in the second half of the lines, by name.

    python kernels.py kernels.log
"""

import re
import sys
from collections import defaultdict

UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        found = [re.match(r"\| ([\d.]+)(ns|µs|ms|s)\s*\| (.*)", line) for line in file]
    # The first step compiles and tries kernels.
    found = [match for match in found if match][-sum(map(bool, found)) // 2 :]
    seconds, times = defaultdict(float), defaultdict(int)
    for match in found:
        name = re.sub(r"\s+", " ", match[3])[:110]
        seconds[name] += float(match[1]) * UNITS[match[2]]
        times[name] += 1
    total = sum(seconds.values())
    print(f"{len(found)} launches, {total:.3f} s")
    for name in sorted(seconds, key=seconds.get, reverse=True)[:30]:
        print(f"{seconds[name] * 1e3:9.2f} ms {100 * seconds[name] / total:5.1f} % {times[name]:6d} x {name}")


if __name__ == "__main__":
    main()
