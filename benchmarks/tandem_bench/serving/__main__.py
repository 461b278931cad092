"""`python -m tandem_bench.serving`, which `tandem bench serve` runs."""

import sys

from tandem_bench.serving.cli import main

if __name__ == "__main__":
    sys.exit(main())
