"""Of forty peers, what an operator sees first, the metrics and the alerts name each faulty one, its cause and since when, and no other."""

import re
import subprocess
import tempfile
import time
import unittest

import yaml

from exercise import Exercise
from test_rules import ALERTS, promtool, rules

# A second of the exercise stands for half a minute of the alerts' time.
SCALE = 30
# 13 minutes: ten for a degraded pool, and the time until its peer dies.
SCRAPES = 27
DIES_AT_S = 2

# Peer, reason, and what the list says of it.
FAULTS = {
    "dead": ("default", "127.0.1.2", "connect_failed", "connection refused"),
    "never there": ("pod-2", "127.0.2.3", "connect_failed", "connection refused"),
    "rejecting": ("pod-2", "127.0.2.7", "handshake_rejected", "rejected by the simulation"),
    "silent": ("pod-2", "127.0.2.9", "handshake_timeout", "no answer to send_identity"),
    "TLS wrong": ("pod-2", "127.0.2.11", "tls_failed", "the peer refused"),
    "DNS wrong": ("pod-2", "leaf-220.invalid", "resolve_failed", "failed to lookup address"),
}
FLAPPING = ("pod-2", "127.0.2.5", "remote_closed", "remote closed")
PARKED = ("default", "127.0.1.254", "not_in_peer_list", "not in peer list")


def notation(values):
    """As promtool reads it. A series that is missing in a scrape ends there, as in Prometheus."""
    values = values + [None] * (SCRAPES - len(values))
    before = [None, *values]
    return " ".join(repr(value) if value is not None else "_" if last is None else "stale" for last, value in zip(before, values))


def duration(seconds):
    """As `humanizeDuration` writes it, for one to sixty minutes."""
    return f"{int(seconds) // 60}m {int(seconds) % 60}s"


class FortyPeers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.exercise = Exercise(
            {'at = "20s"': f'at = "{DIES_AT_S}s"', 'at = "60s"': 'at = "1h"'},
            # As much shorter as it has to be to fail within the exercise.
            {'handshake = "5s"': 'handshake = "500ms"'},
        )
        cls.addClassCleanup(cls.exercise.stop)
        cls.series = cls.record()
        cls.screen = cls.exercise.screen("peers", "list")
        cls.pools = cls.exercise.screen("pool", "list")

    @classmethod
    def record(cls):
        """A value of each series for each second, times in seconds since the start."""
        series = {}
        for scrape in range(SCRAPES):
            time.sleep(max(0.0, cls.exercise.started + scrape + 1 - time.time()))
            for name, value in cls.exercise.metrics().items():
                if "_timestamp_seconds" in name:
                    value = max(0.0, round((value - cls.exercise.started - 1) * SCALE))
                values = series.setdefault(name, [])
                values += [None] * (scrape - len(values)) + [value]
        return series

    def last(self, metric, host, **labels):
        """The last value of the one series of that peer."""
        wanted = [f'peer="{host}:{self.exercise.port}"', *(f'{label}="{value}"' for label, value in labels.items())]
        found = [values for name, values in self.series.items() if name.startswith(metric + "{") and all(label in name for label in wanted)]
        values = [values[-1] for values in found if len(values) == SCRAPES and values[-1] is not None]
        self.assertLessEqual(len(values), 1, f"{metric} of {host}")
        return values[0] if values else None

    def entry(self, host):
        """What the screen has of a peer: its row, and the line below it that goes on."""
        address = f"{host}:{self.exercise.port}"
        [at] = [at for at, line in enumerate(self.screen) if re.search(rf"(^|/){re.escape(address)}\s", line + " ")] or [None]
        self.assertIsNotNone(at, f"no {address} on the first screen:\n" + "\n".join(self.screen))
        below = [line.strip() for line in self.screen[at + 1 : at + 2] if line.startswith(" ")]
        return at, " ".join([self.screen[at], *below])

    def test_the_first_screen_names_peer_cause_and_since_when(self):
        for fault, (_, host, reason, detail) in FAULTS.items():
            with self.subTest(fault):
                _, entry = self.entry(host)
                self.assertIn(reason.replace("_", " "), entry)
                self.assertIn(detail, entry)
                self.assertRegex(entry, r" \d+s ")
        worst = max(self.entry(host)[0] for _, host, _, _ in FAULTS.values())
        for _, host, _, detail in (FLAPPING, PARKED):
            at, entry = self.entry(host)
            self.assertIn(detail, entry)
        self.assertRegex(self.entry(FLAPPING[1])[1], r"\s[1-9]\d*\s", "how often it was lost")
        self.assertRegex(self.entry(PARKED[1])[1], "parked")
        ready = [at for at, line in enumerate(self.screen) if " READY " in line and FLAPPING[1] not in line]
        self.assertGreater(min(ready), worst)

    def test_the_list_of_pools_says_which_are_degraded(self):
        for pool, health, ready in (("default", "DEGRADED", "1"), ("pod-2", "DEGRADED", "1[45]"), ("pod-3", "HEALTHY", "17")):
            [line] = [line for line in self.pools if line.startswith(pool + " ")]
            self.assertRegex(line, rf"{health}\b.*\b{ready}\b")

    def test_the_metrics_name_them_and_no_others(self):
        since = "opflex_peer_not_ready_since_timestamp_seconds"
        for fault, (pool, host, reason, _) in FAULTS.items():
            with self.subTest(fault):
                self.assertGreater(self.last("opflex_peer_attempt_failures_total", host, pool=pool, reason=reason), 2)
                start = DIES_AT_S * SCALE if fault == "dead" else 0
                self.assertAlmostEqual(self.last(since, host, pool=pool), start, delta=2 * SCALE)
        self.assertGreater(self.last("opflex_peer_flaps_total", FLAPPING[1]), 3)
        self.assertEqual(self.last("opflex_peer_wanted", PARKED[1]), 0)
        self.assertIsNone(self.last(since, PARKED[1]))
        faulty = {host for _, host, _, _ in (*FAULTS.values(), FLAPPING, PARKED)}
        for name, values in self.series.items():
            host = re.search(r'peer="([^"]*):\d+"', name)
            if host and host[1] not in faulty and name.startswith(("opflex_peer_attempt_failures_total", "opflex_peer_flaps_total")):
                self.assertEqual(values[-1], 0, name)

    def test_the_alerts_name_them_and_nothing_else_fires(self):
        end = f"{(SCRAPES - 1) * SCALE}s"
        degraded = [("OpflexPoolDegraded", f'pool="{pool}"', 1) for pool in ("default", "pod-2")]
        flapping = [("OpflexPeerFlapping", f'peer="{FLAPPING[1]}:{self.exercise.port}",pool="{FLAPPING[0]}"', 1)]
        broken = [("OpflexPeerNotReady", f'peer="{host}:{self.exercise.port}",pool="{pool}"', 1) for pool, host, _, _ in FAULTS.values()]
        fired = [{"labels": "{alertname=\"%s\",%s}" % (alert, labels), "value": value} for alert, labels, value in degraded + flapping + broken]
        test = {
            "interval": f"{SCALE}s",
            "input_series": [{"series": self.scraped(name), "values": notation(values)} for name, values in self.series.items()],
            "promql_expr_test": [{
                "expr": 'count by (alertname, pool, peer) (count_over_time(ALERTS{alertstate="firing"}[15m]))', "eval_time": end, "exp_samples": fired,
            }],
            "alert_rule_test": [{"alertname": "OpflexPeerNotReady", "eval_time": end, "exp_alerts": [self.alert(*fault) for fault in FAULTS.values()]}],
        }
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": f"{SCALE}s", "tests": [test]}, file)
            file.flush()
            result = promtool("test", "rules", file.name)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    @staticmethod
    def scraped(name):
        """With the label that Prometheus adds."""
        return name.replace("{", '{instance="i",', 1) if "{" in name else name + '{instance="i"}'

    def alert(self, pool, host, reason, _):
        """What it says: peer, since when, and the cause."""
        [rule] = [rule for rule in rules() if rule["alert"] == "OpflexPeerNotReady"]
        peer = f"{host}:{self.exercise.port}"
        age = (SCRAPES - 1) * SCALE - self.last("opflex_peer_not_ready_since_timestamp_seconds", host)
        return {
            "exp_labels": {**rule["labels"], "instance": "i", "pool": pool, "peer": peer},
            "exp_annotations": {
                "summary": f"OpFlex peer {peer} is not READY",
                "description": f"{peer} of pool {pool} of i has not been READY for {duration(age)}. The last attempt: {reason.upper()}.",
                "runbook_url": rule["annotations"]["runbook_url"],
            },
        }


if __name__ == "__main__":
    unittest.main()
