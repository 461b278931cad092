"""`python -m tandem_bench.serving`, which `tandem bench serve` runs."""

import os
import signal
import sys

from tandem_bench.serving.cli import main

if __name__ == "__main__":
    # Else the services that were started would outlive this process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Not a flag: command lines are there for everybody to read.
    sys.exit(main(token=os.environ.get("TANDEM_TOKEN")))
