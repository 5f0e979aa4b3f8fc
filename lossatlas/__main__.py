"""`python -m lossatlas NAME ...`: see `lossatlas.cli`."""

from lossatlas.cli import main

if __name__ == "__main__":
    main()
