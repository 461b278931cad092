"""What a request gets on a CPU does not depend on what else runs."""

from support.company_behaviour import *  # noqa: F403  (tests and their fixtures)
