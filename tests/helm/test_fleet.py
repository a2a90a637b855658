"""The chart's part of a fleet: nodes that publish, and the service that reads what they publish."""

import tomllib
import unittest

from chart import config, containers, fleet, manifests, nodes, notes_of, one, service_container, services, test_pods, workload


def sides(case="fleet", *options):
    found = manifests(case, *options)
    return nodes(found), fleet(found)


class Fleet(unittest.TestCase):
    def test_without_it_there_is_nothing_of_it(self):
        for options in ((), ("--set", "fleet.cluster=lab,fleet.nats={nats://nats}")):
            found = manifests("daemonset", *options)
            self.assertEqual(fleet(found), [])
            self.assertNotIn("fleet", tomllib.loads(config(found)))

    def test_its_service_can_be_left_out(self):
        found = manifests("fleet", "--set", "fleet.reader.enabled=false,fleet.reader.auth=null")
        self.assertEqual(fleet(found), [])
        self.assertIn("fleet", tomllib.loads(config(found)))
        self.assertEqual(len(test_pods(found)), 2)

    def test_a_node_has_the_name_of_its_kubernetes_node(self):
        pods, reader = sides()
        variables = {v["name"]: v for v in service_container(pods)["env"]}
        self.assertEqual(variables["NODE_NAME"]["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName")
        self.assertEqual(variables["PEERSTATUS_FLEET_NODE"]["value"], "$(NODE_NAME)")
        self.assertNotIn("node", tomllib.loads(config(pods))["fleet"])
        self.assertEqual({v["name"] for v in service_container(reader)["env"]}, {"PEERSTATUS_SERVER"})
        pods, _ = sides("full")
        self.assertEqual(tomllib.loads(config(pods))["fleet"]["node"], "watcher")
        found = manifests("full", "--set", "fleet.node=")
        self.assertEqual(tomllib.loads(config(found))["fleet"]["node"], "fabric-peers")

    def test_a_pod_sees_the_key_of_its_node_alone(self):
        pods, _ = sides()
        [mount] = [mount for mount in service_container(pods)["volumeMounts"] if mount["name"] == "nats"]
        self.assertEqual(mount["subPathExpr"], "$(NODE_NAME).nk")
        self.assertEqual(tomllib.loads(config(pods))["fleet"]["nkey_file"], mount["mountPath"])

    def test_nodes_and_reader_have_credentials_of_their_own(self):
        def secrets(found):
            volumes = workload(found)["spec"]["template"]["spec"]["volumes"]
            return {volume["secret"]["secretName"] for volume in volumes if volume["name"].startswith("nats") and "secret" in volume}

        for case, expected in (("fleet", ({"nats-nodes"}, {"nats-reader"})), ("full", (
            {"nats-node", "nats-node-tls", "nats-ca"}, {"nats-reader", "nats-reader-tls", "nats-ca"},
        ))):
            self.assertEqual(tuple(secrets(side) for side in sides(case)), expected)
        node, reader = (tomllib.loads(config(side))["fleet"] for side in sides("full"))
        self.assertEqual((node["user"], node["password_file"]), ("node", "/etc/peerstatus/nats/word"))
        self.assertEqual(reader["credentials_file"], "/etc/peerstatus/nats/reader.creds")
        self.assertNotIn("user", reader)
        self.assertEqual(node["tls"], reader["tls"])
        self.assertEqual(reader["limits"], {"max_nodes": 100, "max_peers_per_node": 200, "max_bytes_per_node": 1048576})
        same = {"cluster", "nats", "stream", "max_age", "max_bytes", "replicas", "create_stream"}
        self.assertEqual({key: node[key] for key in same}, {key: reader[key] for key in same})

    def test_the_reader_has_no_pools_and_is_never_on_the_network_of_the_nodes(self):
        values = "fleet.enabled=true,fleet.cluster=lab,fleet.nats={nats://nats}"
        pods, reader = sides("aci", "--set", values)
        self.assertTrue(workload(pods)["spec"]["template"]["spec"]["hostNetwork"])
        spec = workload(reader)["spec"]["template"]["spec"]
        self.assertNotIn("hostNetwork", spec)
        self.assertNotIn("tolerations", spec)
        parsed = tomllib.loads(config(reader))
        self.assertEqual((parsed["server"]["listen"], parsed["server"]["admin"]), ("[::]:50051", "[::]:9613"))
        self.assertEqual(parsed["server"]["auth"], {"anonymous": "viewer"})
        self.assertNotIn("pool", parsed)
        self.assertEqual(service_container(reader)["args"][0], "fleet")

    def test_two_replicas_go_to_different_nodes_and_one_is_always_there(self):
        _, reader = sides()
        spec = workload(reader)["spec"]
        self.assertEqual((spec["replicas"], spec["strategy"]["rollingUpdate"]), (2, {"maxSurge": 1, "maxUnavailable": 0}))
        [spread] = spec["template"]["spec"]["topologySpreadConstraints"]
        self.assertEqual(spread["labelSelector"], spec["selector"])
        budget = one(reader, "PodDisruptionBudget")["spec"]
        self.assertEqual((budget["maxUnavailable"], budget["selector"]), (1, spec["selector"]))

    def test_the_reader_is_placed_and_sized_as_its_values_say(self):
        _, reader = sides("full")
        spec = workload(reader)["spec"]["template"]["spec"]
        self.assertEqual((spec["nodeSelector"], spec["tolerations"]), ({"role": "control"}, [{"key": "control", "operator": "Exists"}]))
        self.assertEqual(service_container(reader)["resources"]["limits"], {"memory": "2Gi"})
        self.assertEqual([container["name"] for container in containers(spec)], ["peerstatus"])
        _, reader = sides()
        self.assertEqual(service_container(reader)["resources"], service_container(manifests("default"))["resources"])

    def test_its_service_is_published_as_its_values_say(self):
        grpc, admin = services(sides("full")[1])
        self.assertEqual((grpc["spec"]["type"], grpc["spec"]["ports"][0]["nodePort"]), ("LoadBalancer", 30052))
        self.assertEqual(grpc["spec"]["ipFamilyPolicy"], "PreferDualStack")
        self.assertEqual((grpc["metadata"]["name"], admin["metadata"]["name"]), ("fabric-peers-fleet", "fabric-peers-fleet-admin"))

    def test_the_network_policies_let_both_reach_nats(self):
        for side in sides():
            rules = one(side, "NetworkPolicy")["spec"]["egress"]
            [rule] = [rule for rule in rules if {"port": 4222, "protocol": "TCP"} in rule["ports"]]
            self.assertEqual(rule["to"], [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nats"}}}])
        pods, reader = ([port["port"] for rule in one(side, "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]] for side in sides("full"))
        self.assertEqual(reader, [53, 53, 5353, 5353, 4443, 4222])
        self.assertEqual(pods, [53, 53, 5353, 5353, 8009, 8010, 8011, 4443, 4222])
        [rule] = one(manifests("full", "--set", "networkPolicy.nats=null"), "NetworkPolicy")["spec"]["egress"][-1:]
        self.assertNotIn("to", rule)

    def test_certificates_and_monitors_are_apart(self):
        found = manifests("fleet", "--set", "server.tls.certManager.enabled=true,server.tls.certManager.issuerRef.name=a")
        names = [one(side, "Certificate")["spec"]["secretName"] for side in (nodes(found), fleet(found))]
        self.assertEqual(names, ["watch-opflex-peerstatus-tls", "watch-opflex-peerstatus-fleet-tls"])
        self.assertIn("watch-opflex-peerstatus-fleet.opflex", one(fleet(found), "Certificate")["spec"]["dnsNames"])
        [endpoint] = one(nodes(found), "ServiceMonitor")["spec"]["endpoints"]
        self.assertEqual([relabeling["targetLabel"] for relabeling in endpoint["relabelings"]], ["node"])
        # Its metrics have a label of that name.
        [endpoint] = one(fleet(found), "ServiceMonitor")["spec"]["endpoints"]
        self.assertNotIn("relabelings", endpoint)
        # One alert for a pool, not one more for each replica.
        [drop] = endpoint["metricRelabelings"]
        self.assertEqual((drop["regex"], drop["action"]), ("opflex_pool_.*", "drop"))

    def test_the_notes_say_where_the_fleet_is(self):
        text = notes_of("fleet")
        self.assertIn("kubectl --namespace opflex exec deployment/watch-opflex-peerstatus-fleet -- peerstatus nodes list", text)
        self.assertIn("watch-opflex-peerstatus-fleet.opflex:50051, in PLAINTEXT", text)
        self.assertNotIn("fleet", notes_of("daemonset"))
        self.assertNotIn("nodes list", notes_of("fleet", "--set", "server.auth.local=none"))
        # The nodes' network has no credentials by default; the reader is not in it.
        on_node = notes_of("aci", "--set", "fleet.enabled=true,fleet.cluster=lab,fleet.nats={nats://nats},server.auth.anonymous=none")
        self.assertIn("`helm test` would be refused", on_node)

    def test_helm_test_reads_the_fleet(self):
        *_, last = test_pods(manifests("fleet"))
        [container] = containers(last["spec"])
        self.assertEqual(container["args"][:2], ["watch", "--until-synced"])
        self.assertEqual(container["env"], [{"name": "PEERSTATUS_SERVER", "value": "watch-opflex-peerstatus-fleet:50051"}])


if __name__ == "__main__":
    unittest.main()
