"""What a request gets on a GPU does not depend on what else runs, with and without graphs."""

from support.company_behaviour import *  # noqa: F403  (tests and their fixtures)
