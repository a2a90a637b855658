"""Bad values are refused, with their place and the reason."""

import unittest

from chart import rendered, template


FLEET = "fleet.enabled=true,fleet.cluster=lab,fleet.nats={nats://nats:4222}"
NKEY = "fleet.auth.kind=nkey,fleet.auth.secret=a,fleet.reader.auth.kind=nkey,fleet.reader.auth.secret=b"


class Refusals(unittest.TestCase):
    """Bad values: each with what the message has to say. test_config.py has those that the service refuses."""

    BAD = {
        "replicas=2": ["additional properties 'replicas' not allowed"],
        "autoscaling.enabled=true": ["additional properties 'autoscaling' not allowed"],
        "server.max_peers=1": ["/server", "'max_peers' not allowed"],
        "server.insecure=perhaps": ["/server/insecure", "got string, want boolean"],
        "limits.max_peers=0": ["/limits/max_peers", "minimum: got 0, want 1"],
        "limits.max_peers=many": ["/limits/max_peers", "want integer"],
        "mode=replicaset": ["/mode", "does not match pattern", "statefulset|daemonset"],
        "mode=deployment": ["mode: a deployment is not supported", "statefulset", "docs/kubernetes.md"],
        "enabled=false": ["enabled", "condition: opflex-peerstatus.enabled"],
        "server.auth.anonymous=admin": ["/server/auth/anonymous", "'viewer', 'operator'"],
        "pools[0].tls.mode=on": ["/pools/0/tls/mode", "'disabled', 'encrypted', 'verify'"],
        "pools[0].source=fabric": ["/pools/0/source", "'connect', 'agent'"],
        "pools[0].source=agent": ["pools[0].source", "mode daemonset"],
        "pools[0].source=agent,mode=daemonset": ["pools[0].source", "set hostNetwork"],
        "pools[0].source=agent,pools[0].peers={a:1}": ["pools[0].peers", "no effect with source agent"],
        "pools[0].source=agent,pools[0].tls.mode=encrypted": ["pools[0].tls", "no effect with source agent"],
        "pools[0].source=agent,pools[0].log=agent.log": ["/pools/0/log", "does not match pattern"],
        "pools[0].log=/var/log/agent.log": ["pools[0].log", "without source agent"],
        "pools[0].peer=a:1": ["/pools/0", "'peer' not allowed"],
        "pools[0].peers={leaf-101}": ["/pools/0/peers/0", "'leaf-101' does not match pattern"],
        "pools[0].peers={2001:db8::1:8009}": ["/pools/0/peers/0", "does not match pattern"],
        "pools[0].tls.mode=verify": ["/pools/0/tls", "missing property 'ca'"],
        "pools[0].peers={leaf-101:65536}": ["/pools/0/peers/0", "does not match pattern"],
        "pools[0].peers={leaf-101:0}": ["/pools/0/peers/0", "does not match pattern"],
        "server.auth.jwt.jwks.secret=a,server.auth.jwt.audience=a": ["/server/auth/jwt", "'issuer' required"],
        "server.auth.jwt.jwks.secret=a,server.auth.jwt.issuer=a": ["/server/auth/jwt", "'audience' required"],
        "server.listen=0.0.0.0:65536": ["/server/listen", "does not match pattern"],
        "fullnameOverride=Fabric": ["/fullnameOverride", "does not match pattern"],
        "fullnameOverride=a.b": ["/fullnameOverride", "does not match pattern"],
        "fullnameOverride=" + "a" * 53: ["/fullnameOverride", "does not match pattern"],
        "nameOverride=a_b": ["/nameOverride", "does not match pattern"],
        "resources.limit.memory=1Gi": ["/resources", "'limit' not allowed"],
        "server.listen=50051": ["/server/listen", "want string"],
        "server.listen=localhost:50051": ["/server/listen", "does not match pattern"],
        "server.listen=127.0.0.1:50051": ["server.listen", "nobody can reach"],
        "server.admin=off": ["/server/admin", "does not match pattern"],
        "server.admin_allowed_hosts={a.example,a.example:80}": ["/server/admin_allowed_hosts/1", "does not match pattern"],
        "server.admin_allowed_hosts={*}": ["/server/admin_allowed_hosts/0", "does not match pattern"],
        "server.admin_allowed_hosts={10.0.0.1}": ["/server/admin_allowed_hosts/0", "does not match pattern"],
        "server.admin=[::]:50051": ["server.listen and server.admin", "two ports"],
        "server.drain_timeout=6m": ["/server/drain_timeout", "does not match pattern"],
        "hostNetwork=true": ["hostNetwork", "server.tls.secret", "server.listen=127.0.0.1:50051"],
        "server.tls.client_ca.secret=ca": ["server.tls.client_ca", "only within TLS"],
        "server.tls.client_auth=required": ["/server/tls/client_ca", "minProperties"],
        "server.tls.client_auth=optional,server.tls.secret=a": ["/server/tls/client_ca", "minProperties"],
        "server.tls.certManager.enabled=true": ["/server/tls/certManager/issuerRef", "missing property 'name'"],
        "server.tls.secret=a,server.tls.certManager.enabled=true,server.tls.certManager.issuerRef.name=a": ["not both"],
        "server.auth.tokens.key=a": ["/server/auth/tokens", "missing property 'secret'"],
        "server.auth.jwt.issuer=a": ["/server/auth/jwt", "'jwks', 'audience' required"],
        "networkPolicy.peerCIDRs={10.0.0.0/8},pools[0].peers={[2001:db8::1]:8009}": ["networkPolicy.peerCIDRs", "IPv6", "pools[0].peers"],
        "networkPolicy.peerCIDRs={2001:db8::/64},pools[0].peers={leaf:1,10.0.0.30:8009}": ["peerCIDRs", "IPv4", "10.0.0.30:8009"],
        "test.token.key=a,server.tls.secret=b": ["test.token", "either a secret or an audience"],
        "test.token.secret=a": ["test.token", "plaintext", "server.tls.secret"],
        "test.pool=fabric-9": ["test.pool", '"fabric-9"'],
        "pools[0].name=fabric-1,test.pool=default": ["test.pool", '"default"'],
        "mode=daemonset,pools[0].name=fabric-1": ["pools[0].name", "one pool, `default`"],
        "mode=daemonset,pools[0].identity.name=node": ["pools[0].identity.name", "use identity.name"],
        "mode=daemonset,podDisruptionBudget.enabled=true": ["podDisruptionBudget", "daemonset"],
        "mode=daemonset,identity.name=node": ["identity.name", "must contain {node}"],
        "mode=daemonset,extraEnv[0].name=PEERSTATUS_NAME,extraEnv[0].value=a": ["extraEnv", "PEERSTATUS_NAME", "identity.name"],
        "identity.name=a": ["identity.name", "pools[].identity.name"],
        "nodeSelector.kubernetes\\.io/hostname=node-1,pools[0].identity.name=node-1": ["pools[0].identity.name", "iKnowThisReplacesTheAgent"],
        "hostNetwork=true,server.listen=127.0.0.1:1,pools[0].peers={leaf-101:8009}": ["hostNetwork", "iKnowHostNetworkDisablesTheAgentsWatchdog"],
        "service.type=ExternalName": ["/service/type", "'ClusterIP', 'NodePort', 'LoadBalancer'"],
        "service.headless=true,service.type=LoadBalancer": ["service.headless", "LoadBalancer"],
        "service.headless=true,service.type=NodePort": ["service.headless", "NodePort"],
        "service.nodePort=30000": ["service.nodePort", "NodePort or LoadBalancer"],
        "service.nodePort=65536,service.type=NodePort": ["/service/nodePort", "maximum"],
        "service.externalTrafficPolicy=Local": ["service.externalTrafficPolicy", "NodePort or LoadBalancer"],
        "service.type=NodePort,service.loadBalancerClass=a": ["service.loadBalancerClass", "LoadBalancer, not NodePort"],
        "service.loadBalancerSourceRanges={10.0.0.0/8}": ["service.loadBalancerSourceRanges", "LoadBalancer, not ClusterIP"],
        "service.type=LoadBalancer,service.loadBalancerSourceRanges={10.0.0.256/8}": ['service.loadBalancerSourceRanges: "10.0.0.256/8" is no network'],
        "service.ipFamilies={IPv5}": ["/service/ipFamilies/0", "'IPv4', 'IPv6'"],
        "service.ipFamilies={IPv4,IPv6}": ["service.ipFamilies", "PreferDualStack or RequireDualStack"],
        "service.ipFamilies={IPv6},server.listen=0.0.0.0:1": ["server.listen", "0.0.0.0:1", "service.ipFamilies", "[::]"],
        "service.ipFamilyPolicy=RequireDualStack,server.admin=0.0.0.0:1": ["server.admin", "service.ipFamilyPolicy"],
        "service.labels.app\\.kubernetes\\.io/name=a": ["service.labels", "app.kubernetes.io/name", "selectors"],
        "adminService.labels.app\\.kubernetes\\.io/component=a": ["adminService.labels", "app.kubernetes.io/component"],
        "commonLabels.app\\.kubernetes\\.io/instance=a": ["commonLabels", "app.kubernetes.io/instance"],
        "podLabels.app\\.kubernetes\\.io/component=a": ["podLabels", "app.kubernetes.io/component"],
        "podLabels.a=b c": ["/podLabels/a", "does not match pattern"],
        "podLabels.-a=b": ["/podLabels", "'-a' not allowed"],
        "podAnnotations.a b=c": ["/podAnnotations", "'a b' not allowed"],
        "networkPolicy.peerCIDRs={10.0.0.0}": ["networkPolicy.peerCIDRs", '"10.0.0.0" is no network'],
        "networkPolicy.peerCIDRs={10.0.0.0/33}": ["networkPolicy.peerCIDRs", '"10.0.0.0/33" is no network'],
        "networkPolicy.peerCIDRs={2001:db8:::/64}": ["networkPolicy.peerCIDRs", '"2001:db8:::/64" is no network'],
        "networkPolicy.peerCIDRs={2001:db8::/129}": ["networkPolicy.peerCIDRs", '"2001:db8::/129" is no network'],
        "networkPolicy.clients[0].ipBlock.cidr=10.0.0.0": ['networkPolicy.clients[0].ipBlock.cidr: "10.0.0.0"'],
        "networkPolicy.clients[0].podSelectors.a=b": ["/networkPolicy/clients/0", "'podSelectors' not allowed"],
        "networkPolicy.dnsPorts={0}": ["/networkPolicy/dnsPorts/0", "minimum"],
        "resources.limits.memory=1GiB": ["/resources/limits/memory", "does not match pattern"],
        "resources.requests.cpu=-1": ["/resources/requests/cpu", "minimum"],
        "resources.requests.memory=1Gi": ["resources.requests.memory: 1Gi", "resources.limits.memory, 512Mi"],
        "resources.requests.cpu=2,resources.limits.cpu=1500m": ["resources.requests.cpu: 2", "1500m"],
        "affinity.nodeAfinity.a=b": ["/affinity", "'nodeAfinity' not allowed"],
        "affinity.podAntiAffinity.required=a": ["/affinity/podAntiAffinity", "'required' not allowed"],
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.a=b": ["/affinity/nodeAffinity", "'nodeSelectorTerms'"],
        "tolerations[0].effects=NoSchedule": ["/tolerations/0", "'effects' not allowed"],
        "server.socket.path=/etc/peerstatus/config/a.sock": ["server.socket.path", "/etc/peerstatus/config", "collides"],
        "server.socket.path=/usr/bin/a.sock": ["server.socket.path", "collides with /usr/bin"],
        "server.socket.path=/usr/a.sock": ["server.socket.path", "collides with /usr/bin"],
        "extraVolumes[0].name=config": ["extraVolumes[0].name", '"config"'],
        "extraVolumes[0].name=a,extraVolumes[1].name=a": ["extraVolumes[1].name", '"a"'],
        "extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/a": ["extraVolumeMounts[0].name", "no volume"],
        "extraVolumeMounts[0].name=socket,extraVolumeMounts[0].mountPath=/run/peerstatus/": ["extraVolumeMounts[0].mountPath", "/run/peerstatus/"],
        "extraContainers[0].name=peerstatus": ["extraContainers[0].name", '"peerstatus"'],
        "initContainers[0].name=a,extraContainers[0].name=a": ["extraContainers[0].name", '"a"'],
        "extraEnv[0].name=a,extraEnv[0].value=1": ["/extraEnv/0/value", "want string"],
        "extraEnv[0].name=PEERSTATUS_SERVER,extraEnv[0].value=a": ["extraEnv", "PEERSTATUS_SERVER"],
        "test.env[0].name=a,test.env[1].name=a": ["test.env", "a is set already"],
        "dnsPolicy=None": ["dnsPolicy", "dnsConfig.nameservers"],
        "dnsConfig.option=a": ["/dnsConfig", "'option' not allowed"],
        "dnsConfig.nameservers={dns.example}": ["/dnsConfig/nameservers/0", "'dns.example' is not valid ipv4"],
        "hostAliases[0].ip=10.0.0.300,hostAliases[0].hostnames={a}": ["/hostAliases/0/ip", "'10.0.0.300' is not valid ipv4"],
        "updateStrategy.type=Recreate": ["/updateStrategy/type", "'RollingUpdate', 'OnDelete'"],
        "updateStrategy.rollingUpdate.maxUnavailable=1": ["updateStrategy.rollingUpdate", "only for mode daemonset"],
        "mode=daemonset,updateStrategy.type=OnDelete,updateStrategy.rollingUpdate.maxSurge=1": ["updateStrategy.rollingUpdate", "OnDelete"],
        "mode=daemonset,updateStrategy.rollingUpdate.maxSurge=1": ["updateStrategy.rollingUpdate", "maxUnavailable must be 0"],
        "mode=daemonset,updateStrategy.rollingUpdate.maxUnavailable=0": ["updateStrategy.rollingUpdate", "must be 0"],
        "mode=daemonset,hostNetwork=true,server.listen=127.0.0.1:1,updateStrategy.rollingUpdate.maxSurge=1": ["maxSurge", "ports", "hostNetwork"],
        "readinessProbe.periodSeconds=0": ["/readinessProbe/periodSeconds", "minimum"],
        "livenessProbe.httpGet.path=a": ["/livenessProbe", "'httpGet' not allowed"],
        "serviceMonitor.scrapeTimeout=1m": ["serviceMonitor.scrapeTimeout: 1m", "serviceMonitor.interval, 30s"],
        "prometheusRule.alerts.OpflexDown.enabled=false": ["prometheusRule.alerts", '"OpflexDown"', "OpflexPoolDown"],
        "prometheusRule.alerts.OpflexPoolDown.enable=false": ["/prometheusRule/alerts/OpflexPoolDown", "'enable' not allowed"],
        "grpcRoute.enabled=true": ["/grpcRoute/parentRefs", "minItems"],
        "grpcRoute.enabled=true,grpcRoute.parentRefs[0].name=a,hostNetwork=true,server.listen=127.0.0.1:1": ["grpcRoute", "127.0.0.1:1"],
        "test.token.audience=a,test.token.secret=b,server.tls.secret=c": ["test.token", "either a secret or an audience"],
        "test.token.audience=a,test.token.key=b,server.tls.secret=c": ["test.token.key", "test.token.secret"],
        "test.ca.secret=a": ["test.ca", "no effect"],
        "fleet.enabled=true,fleet.nats={nats://n}": ["fleet.cluster", "name the cluster"],
        "fleet.enabled=true,fleet.cluster=lab": ["fleet.nats", "nats://nats.nats:4222"],
        "fleet.cluster=a.b": ["/fleet/cluster", "does not match pattern"],
        "fleet.nats={http://n}": ["/fleet/nats/0", "does not match pattern"],
        "fleet.nats={nats://u:p@n}": ["/fleet/nats/0", "does not match pattern"],
        "fleet.nats={nats://n:65536}": ["/fleet/nats/0", "does not match pattern"],
        "fleet.auth.kind=nkey": ["/fleet/auth", "missing property 'secret'"],
        "fleet.auth.kind=jwt,fleet.auth.secret=a": ["/fleet/auth/kind", "'nkey', 'credentials', 'token', 'password'"],
        "fleet.tls.mode=verify,fleet.tls.server_name=a": ["/fleet/tls", "'server_name' not allowed"],
        "fleet.limits.max_nodes=0": ["/fleet/limits/max_nodes", "minimum: got 0, want 1"],
        "fleet.reader.replicas=0": ["/fleet/reader/replicas", "minimum"],
        f"mode=daemonset,{FLEET},fleet.node=a": ["fleet.node", "Kubernetes node"],
        f"{FLEET},fleet.auth.kind=nkey,fleet.auth.secret=a": ["fleet.reader.auth", "its own", "fleet.reader.enabled=false"],
        f"{FLEET},{NKEY},fleet.auth.user=a": ["fleet.auth.user", "only then"],
        f"{FLEET},{NKEY},fleet.reader.auth.kind=password": ["fleet.reader.auth.user", "needed with kind password"],
        f"{FLEET},fleet.reader.service.nodePort=30000": ["fleet.reader.service.nodePort", "fleet.reader.service.type NodePort"],
        f"{FLEET},fleet.reader.service.loadBalancerSourceRanges={{10.0.0.0/8}}": ["fleet.reader.service.loadBalancerSourceRanges"],
        f"{FLEET},fleet.reader.resources.requests.memory=1Gi,fleet.reader.resources.limits.memory=1Mi": ["fleet.reader.resources.requests.memory: 1Gi"],
        "fleet.reader.service.labels.app\\.kubernetes\\.io/name=a": ["fleet.reader.service.labels", "selectors"],
        "networkPolicy.nats[0].ipBlock.cidr=10.0.0.0": ['networkPolicy.nats[0].ipBlock.cidr: "10.0.0.0"'],
        "image.tag=a/b": ["/image/tag", "does not match pattern"],
    }

    def test_bad_values_are_refused_with_place_and_reason(self):
        for values, words in self.BAD.items():
            with self.subTest(values):
                result = template("default", "--set", values)
                self.assertNotEqual(result.returncode, 0)
                for word in words:
                    self.assertIn(word, result.stderr)

    def test_a_key_of_each_node_is_for_the_pods_of_nodes_alone(self):
        for case, values, key, words in (
            ("default", NKEY, "fleet.auth.key={node}.nk", ["fleet.auth.key", "mode daemonset"]),
            ("daemonset", NKEY, "fleet.reader.auth.key={node}.nk", ["fleet.reader.auth.key", "no node"]),
            ("daemonset", NKEY, "fleet.auth.key={pod}.nk", ["fleet.auth.key", "{node}"]),
            ("daemonset", NKEY.replace("nkey", "password", 1) + ",fleet.auth.user=a", "fleet.auth.key={node}", ["fleet.auth.key", "nkey or credentials"]),
        ):
            with self.subTest(case=case, key=key):
                result = template(case, "--set", f"{FLEET},{values}", "--set-literal", key)
                self.assertNotEqual(result.returncode, 0)
                for word in words:
                    self.assertIn(word, result.stderr)

    def test_the_name_of_the_node_alone_is_refused(self):
        result = template("daemonset", "--set-literal", "identity.name={node}")
        self.assertNotEqual(result.returncode, 0)
        for word in ("identity.name", "opflex-agent", "{node}-peerstatus", "identity.iKnowThisReplacesTheAgent"):
            self.assertIn(word, result.stderr)

    def test_values_of_an_older_chart_are_refused_with_what_to_do(self):
        result = template("default", "--set", "fleet=null")
        self.assertIn("--reset-then-reuse-values", result.stderr)

    def test_addresses_and_networks_of_both_families_are_taken(self):
        for network in ("0.0.0.0/0", "10.1.2.3/32", "::/0", "2001:db8::/32", "fe80::1/64", "1:2:3:4:5:6:7:8/128", "1::8/0", "::1/128"):
            with self.subTest(network):
                rendered("default", "--set", f"networkPolicy.peerCIDRs={{{network}}}")


if __name__ == "__main__":
    unittest.main()
