#!/bin/bash
# examples/language_model/story.py says what it shows.
#
#     bash examples/language_model/run.sh        OUT=folder: where to; SMALL=1: a small form of it, in a folder small
set -euo pipefail
python "$(dirname "$0")/story.py" --out "${OUT:-.}${SMALL:+/small}" ${SMALL:+--small}
