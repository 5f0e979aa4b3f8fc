"""What may happen to a job in a batch queue, done to the commands many times over: each promise, and how often it held.

    python benchmarks/torture.py                            everything in full: two hours on two cores
    python benchmarks/torture.py kills ways --count 5       some of it
    python benchmarks/torture.py ways --environment VENV    with the python and the mpirun of another environment

What is done is in tests/torture; the tests do it in small numbers (tests/test_torture.py). A case that fails is printed
with its seed.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from torture import SECTIONS, Place


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="default: all")
    p.add_argument("--count", type=int, help="how many cases of each (default: the full number)")
    p.add_argument("--environment", default="", help="a virtual environment with its own python and mpirun")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--verbose", action="store_true", help="print what held, too")
    args = p.parse_args()
    for number in (signal.SIGINT, signal.SIGHUP):  # which nohup and a shell's & have ignored, by what is started too
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    failed = 0
    for name in args.sections or SECTIONS:
        function, full = SECTIONS[name]
        with tempfile.TemporaryDirectory(prefix=f"torture_{name}_") as folder:
            place, began, held, all_of_them = Place.at(Path(folder), args.environment), time.monotonic(), 0, 0
            for good, what in function(place, args.count or full, args.seed):
                held, all_of_them = held + good, all_of_them + 1
                if not good or args.verbose:
                    print(f"{'held  ' if good else 'FAILED'} {name}: {what}", flush=True)
        failed += all_of_them - held
        print(f"{name}: {held} of {all_of_them} held ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
