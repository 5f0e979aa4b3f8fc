"""Train those of the six networks whose checkpoint is not there.

python examples/todays_networks/train.py FOLDER [STEPS]
"""

import sys
from importlib import import_module
from pathlib import Path

NETWORKS = ("vit", "gpt", "lora", "pinn", "adversarial", "value")


def main(folder: Path, *steps: int) -> None:
    for name in NETWORKS:
        path = folder / f"{name}.pt"
        if not path.exists():
            print(f"training {name}", flush=True)
            import_module(name).main(str(path), *steps)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
