"""`python -m lossatlas NAME ...`: see `lossatlas.cli`."""

from lossatlas.cli import main
from lossatlas.programs import MODULE

if __name__ == "__main__":
    main(MODULE)
