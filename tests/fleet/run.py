"""Runs seeds: `run.py 17`, `run.py 1-200`."""

import sys
from pathlib import Path

from runner import main

from fleet_world import NATS_SERVER

if __name__ == "__main__":
    missing = None if Path(NATS_SERVER).is_file() else f"not installed: {NATS_SERVER}"
    sys.exit(main(Path(__file__).with_name("seed.py"), missing))
