#!/bin/bash
# examples/homogeneity/story.py says what it shows.
#
#     bash examples/homogeneity/run.sh        OUT=folder: where to; SMALL=1: a small form of it
set -euo pipefail
python "$(dirname "$0")/story.py" --out "${OUT:-.}" ${SMALL:+--small}
