"""The page of statuses says every status that an error of the services becomes."""

import pytest

from support.status_table import documented_statuses
from tandem_service.status import STATUS_CODES


def test_the_page_has_both_services():
    assert set(documented_statuses()) == {"tandem.v1.Inference", "tandem.engine.v1.Engine"}


@pytest.mark.parametrize("code", sorted({code.name for code in STATUS_CODES.values()}))
def test_every_error_has_a_documented_status(code):
    assert any(code in statuses for statuses in documented_statuses().values())
