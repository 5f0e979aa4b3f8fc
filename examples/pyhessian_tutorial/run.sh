#!/bin/bash
# PyHessian's tutorial with this library, from top to bottom: about a minute on one core.
#
#     OUT=folder bash examples/pyhessian_tutorial/run.sh
#
# Draws the notebook's figures as $OUT/pyhessian_1.png, ... (OUT is . by default). SMALL=1 is the same: it is small anyway.
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${OUT:-.}"
export PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}" MPLBACKEND=Agg
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # so small a network gains nothing from more
python - "$here/tutorial.ipynb" "${OUT:-.}" <<'END'
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

notebook, out = Path(sys.argv[1]), Path(sys.argv[2])
names = {}
for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), notebook.name, "exec"), names)
for number in plt.get_fignums():
    plt.figure(number).savefig(out / f"pyhessian_{number}.png", dpi=150)
END
