"""Names and labels of metrics are good, and docs, dashboard and alerts ask for none that is not there."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from engine_service.metrics import EngineMetrics
from support.exported_metrics import declared, sample_names, shown_name
from tokenizer_service.metrics import TokenizerMetrics

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| `(tandem_\w+)` \| (\w+) \| (.+) \|")
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/tandem.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
UNITS = ("_seconds", "_total", "_tokens", "_sequences", "_requests", "_blocks", "_info", "_up")
COUNTED = {"tandem_engine_sessions", "tandem_tokenizer_workers", "tandem_tokenizer_engine_connections"}
LABELS = {"code", "method", "outcome", "reason", "source", "version"}


def test_the_document_lists_every_metric_as_the_code_has_it():
    rows = ROW.findall((ROOT / "docs/metrics.md").read_text())
    assert rows == [(shown_name(each), each.type, each.documentation) for each in declared()]


def test_names_end_with_what_they_count():
    names = [shown_name(each) for each in declared()]
    assert len(names) == len(set(names))
    assert [name for name in names if not name.endswith(UNITS) and name not in COUNTED] == []
    assert all(
        name.endswith("_total")
        for name, each in zip(names, declared(), strict=True)
        if each.type == "counter"
    )


def test_labels_are_few():
    for metrics in (EngineMetrics(), TokenizerMetrics()):
        for metric in vars(metrics).values():
            if isinstance(metric, MetricWrapperBase):
                assert set(metric._labelnames) <= LABELS


def _queries():
    for panel in DASHBOARD["panels"]:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield pytest.param(rule["expr"], id=rule["alert"])


@pytest.mark.parametrize("query", list(_queries()))
def test_a_query_asks_for_what_is_exported(query):
    names = set(re.findall(r"\btandem_\w+", query))
    assert names
    assert names <= sample_names()
    # A counter on its own only ever grows.
    for name in names:
        if name.endswith(("_total", "_bucket")):
            assert re.search(rf"\b(rate|increase)\({name}[{{\[]", query), name


def test_prometheus_and_grafana_find_what_is_mounted():
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert all((ROOT / "deploy/prometheus" / name).exists() for name in prometheus["rule_files"])
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    for panel in DASHBOARD["panels"]:
        assert {panel["datasource"]["uid"], *(each["datasource"]["uid"] for each in panel["targets"])} == {
            source["uid"]
        }
    (provider,) = yaml.safe_load((provisioning / "dashboards/tandem.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
