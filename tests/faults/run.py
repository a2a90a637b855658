"""Runs seeds: `run.py 17`, `run.py 1-500`."""

import sys
from pathlib import Path

from runner import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).with_name("seed.py")))
