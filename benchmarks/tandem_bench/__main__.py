"""`python -m tandem_bench`: runs workloads, or redraws the README from their results."""

import sys

from tandem_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
