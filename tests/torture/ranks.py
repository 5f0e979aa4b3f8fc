"""Several jobs on one output, and several ranks, on one host and on two."""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from lossatlas.io import read_directions, read_surface
from torture.place import Outcome, Place, ended, numbers


def jobs(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Two jobs with different directions on one output: one of them stops and says who writes."""
    rng = random.Random(seed)
    for k in range(count):
        file = place.folder / f"shared_{k}.h5"
        running = []
        for number in (1, 2):
            command = place.command("plot_surface.py", file, "--seed", str(number), "--dir_file", f"{file}.{number}.h5")
            running.append((time.monotonic(), place.start(command, SLEEP="0.01")))
            time.sleep(rng.choice([0, 0, 0.05, rng.uniform(0, 3)]))
        results = [ended(process, 600, began) for began, process in running]
        right = [number for number, result in zip((1, 2), results, strict=True) if result.code == 0]
        refused = [result for result in results if result.code == 5]
        good = len(right) == 1 and len(refused) == 1 and "is being written by process" in refused[0].errors
        if good:
            used = read_directions(f"{file}.{right[0]}.h5").sha256
            good = read_surface(file).request["directions"] == used and read_surface(file).done.all()
        yield bool(good), f"{k}: codes {[r.code for r in results]}, {[f'{r.seconds:.1f} s' for r in refused]}"


def ranks(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """The same values on 0, 1, 2, 3, 4 and 7 ranks, and on more ranks than cells."""
    del seed
    expected = None
    for number in (0, 1, 2, 3, 4, 7)[: count or None]:
        file = place.folder / f"on_{number}.h5"
        result = place.run(place.command("plot_surface.py", file, ranks=number))
        expected = expected or numbers(file)
        yield result.code == 0 and numbers(file) == expected, f"{number} ranks: code {result.code}"
    if count >= 7:
        few = {}
        for number in (0, 7):
            file = place.folder / f"few_{number}.h5"
            result = place.run(place.command("plot_surface.py", file, "--x=-1:1:3", "--y=0:0:1", ranks=number))
            few[number] = numbers(file) if file.exists() else {"": result.errors.encode()}
        yield few[0] == few[7], "7 ranks for 3 cells"


HOSTS = """#!/bin/sh
# Stands for ssh: host, then the command, in that host's network and under its name.
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; exec $*"
"""


def hosts(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Ranks on two hosts, which are network namespaces with addresses and names of their own: the same values."""
    del count, seed
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if (
        not ip
        or os.geteuid()
        or "hydra"
        not in subprocess.run([place.mpirun, "--version"], capture_output=True, text=True, check=False).stdout.lower()
    ):
        return
    alone = place.folder / "on_one_host.h5"
    assert place.run(place.command("plot_surface.py", alone)).code == 0
    script = place.folder / "reach"
    script.write_text(HOSTS)
    script.chmod(0o755)
    steps = [
        "netns add first",
        "netns add second",
        "link add end1 type veth peer name end2",
        "link set end1 netns first",
        "link set end2 netns second",
        "-n first addr add 10.99.0.1/24 dev end1",
        "-n second addr add 10.99.0.2/24 dev end2",
        "-n first link set end1 up",
        "-n second link set end2 up",
        "-n first link set lo up",
        "-n second link set lo up",
    ]
    try:
        for step in steps:
            if subprocess.run([ip, *step.split()], capture_output=True, check=False).returncode:
                return
        names = Path("/etc/netns")
        for name in ("first", "second"):
            (names / name).mkdir(parents=True, exist_ok=True)
            (names / name / "hosts").write_text("127.0.0.1 localhost\n10.99.0.1 first\n10.99.0.2 second\n")
        file = place.folder / "on_two_hosts.h5"
        own = place.command("plot_surface.py", file, "--mpi", ranks=2)[3:]
        launcher = [
            place.mpirun,
            "-launcher",
            "ssh",
            "-launcher-exec",
            str(script),
            "-hosts",
            "first,second",
            "-n",
            "2",
        ]
        command = [ip, "netns", "exec", "first", "unshare", "--uts", "sh", "-c"]
        inner = " ".join(f"'{part}'" for part in [*launcher, "-ppn", "1", *own])
        result = place.run([*command, f"hostname first; exec {inner}"], timeout=600)
        good = result.code == 0 and numbers(file) == numbers(alone)
        said = str(read_surface(file).about.get("computed_by", "")) if file.exists() else ""
        yield good and "second" in said, f"two hosts: code {result.code} {result.lines} {said}"
    finally:
        for name in ("first", "second"):
            subprocess.run([ip, "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
