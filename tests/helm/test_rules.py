"""Alerts and dashboard: they fire when they should, lead to the runbook, and ask for metrics that there are."""

import json
import os
import re
import subprocess
import tempfile
import unittest

import yaml

from chart import CHART, HERE, PATIENCE_S, ROOT, manifests, one

ALERTS = CHART / "files" / "alerts.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
PROMTOOL = os.environ.get("PROMTOOL", "promtool")
METRICS = ROOT / "docs" / "metrics.md"
RUNBOOK = "https://git.example/opflex-peerstatus/blob/main/docs/runbook.md"


def rules():
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels():
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]


def queries():
    """Every query, with where it is."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in json.loads(DASHBOARD.read_text(encoding="utf-8"))["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def exported():
    """Names as Prometheus stores them, from the tables of the documentation: `name` | type | …"""
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    text = METRICS.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z_]+)` \| (gauge|counter|histogram|info)\b", text, re.MULTILINE)
    return {name + end for name, kind in listed for end in ends.get(kind, [""])}


def names(query):
    """The metrics in a query: words with a prefix of ours, outside of braces."""
    return re.findall(r"\b(?:opflex|grpc|process)_[a-z_]+\b", re.sub(r"\{[^}]*\}|\b(by|on|ignoring|without) \([^)]*\)", "", query))


def subsections(runbook):
    return re.findall(r"^### ([A-Z_]+)$", runbook, re.MULTILINE)


def promtool(*arguments):
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=PATIENCE_S)


class Alerts(unittest.TestCase):
    def test_promtool_takes_the_rules(self):
        result = promtool("check", "rules", "--lint-fatal", str(ALERTS))
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_each_fires_on_its_series_and_on_no_others(self):
        result = promtool("test", "rules", str(HERE / "alerts.test.yaml"))
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_they_fire_on_what_a_running_service_exported(self):
        """In recorded.test.yaml, BROKEN is the query of the dashboard's table."""
        tests = yaml.safe_load((HERE / "recorded.test.yaml").read_text(encoding="utf-8"))
        series = yaml.safe_load((HERE / "recorded-series.yaml").read_text(encoding="utf-8"))
        [table] = [target["expr"] for panel in panels() if panel["title"] == "Broken peers" for target in panel["targets"]]
        table = re.sub(r'"\$\w+"', '".*"', table)
        for test in tests["tests"]:
            test["input_series"] = series
            for check in test["promql_expr_test"]:
                check["expr"] = check["expr"].replace("BROKEN", table)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            yaml.safe_dump({**tests, "rule_files": [str(ALERTS)]}, file)
            file.flush()
            result = promtool("test", "rules", file.name)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_each_is_tried_firing_and_not_firing(self):
        tests = yaml.safe_load((HERE / "alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
        tried = {(check["alertname"], bool(check["exp_alerts"])) for test in tests for check in test["alert_rule_test"]}
        self.assertEqual(tried, {(rule["alert"], fires) for rule in rules() for fires in (True, False)})

    def test_each_has_a_section_in_the_runbook_and_each_section_an_alert(self):
        runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
        sections = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", runbook, re.MULTILINE)}
        led_to = {rule["annotations"]["runbook_url"] for rule in rules()}
        self.assertEqual(led_to, {f"{RUNBOOK}#{section}" for section in sections})
        links = set(re.findall(r"\]\(#([a-z_-]+)\)", runbook))
        self.assertLessEqual(links, sections | {reason.lower() for reason in subsections(runbook)})

    def test_the_runbook_has_a_section_for_each_reason_that_a_peer_is_not_ready(self):
        source = (ROOT / "src" / "peer" / "status.rs").read_text(encoding="utf-8")
        failures = re.findall(r"Self::(\w+),", source.partition("FAILURES")[2].partition("];")[0])
        names = dict(re.findall(r'^        (\w+) = "(\w+)",', source, re.MULTILINE))
        expected = [names[failure] for failure in failures] + ["NOT_IN_PEER_LIST"]
        self.assertEqual(subsections((ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")), expected)

    def test_the_chart_has_them_as_they_are(self):
        groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
        self.assertEqual(one(manifests("aci"), "PrometheusRule")["spec"]["groups"], groups)

    def test_the_chart_leads_to_a_runbook_elsewhere(self):
        groups = one(manifests("full"), "PrometheusRule")["spec"]["groups"]
        urls = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]]
        self.assertEqual(len(urls), len(rules()) - 1, "full.yaml leaves one out")
        self.assertEqual([url for url in urls if not url.startswith("https://docs.example/peerstatus/docs/runbook.md#")], [])


class Dashboard(unittest.TestCase):
    def test_the_chart_has_it_as_it_is(self):
        [text] = [m["data"]["opflex-peerstatus.json"] for m in manifests("aci") if "opflex-peerstatus.json" in m.get("data", {})]
        self.assertEqual(json.loads(text), json.loads(DASHBOARD.read_text(encoding="utf-8")))

    def test_its_table_leads_to_the_runbook(self):
        text = DASHBOARD.read_text(encoding="utf-8")
        self.assertIn(f'"{RUNBOOK}#${{__data.fields.reason}}"', text)
        [text] = [m["data"]["opflex-peerstatus.json"] for m in manifests("full") if "opflex-peerstatus.json" in m.get("data", {})]
        self.assertIn('"https://docs.example/peerstatus/docs/runbook.md#${__data.fields.reason}"', text)

    def test_panels_do_not_overlap_and_have_ids_of_their_own(self):
        self.assertEqual(len({panel["id"] for panel in panels()}), len(panels()))
        taken = set()
        for panel in panels():
            grid = panel["gridPos"]
            cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
            self.assertEqual(taken & cells, set(), panel["title"])
            self.assertLessEqual(grid["x"] + grid["w"], 24)
            taken |= cells

    def test_its_queries_are_promql(self):
        expressions = [expr for place, expr in queries() if not expr.startswith("label_values(")]
        listed = [{"record": f"r{n}", "expr": re.sub(r"\$__\w+", "5m", expr)} for n, expr in enumerate(expressions)]
        text = yaml.safe_dump({"groups": [{"name": "dashboard", "rules": listed}]})
        result = subprocess.run([PROMTOOL, "check", "rules", "/dev/stdin"], input=text, capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)


class Metrics(unittest.TestCase):
    def test_every_query_asks_for_metrics_that_are_exported(self):
        for place, query in queries():
            with self.subTest(place):
                self.assertNotEqual(names(query), [])
                self.assertEqual(set(names(query)) - exported(), set())


if __name__ == "__main__":
    unittest.main()
