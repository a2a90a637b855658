#!/usr/bin/env bash
# Builds Kubernetes into .tools/cluster/bin/, and unpacks etcd, containerd, runc, the CNI plugins and iptables of the distribution
# beside it, for `make cluster-test`. Without root, apt or the network there is no cluster, and the tests are skipped and say so.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

module=$ROOT/tests/cluster/kubernetes
folder=$TOOLS/cluster
version="$(version_of "$module/go.sum") $(version_of "$module/pause/main.go")"
skip() { say "$*: the tests on a cluster will be skipped" && exit 0; }
[ "$(id -u)" = 0 ] || skip 'Not root'
skip_if_installed cluster "$version" "$folder/bin/kubelet"
need go
mkdir -p "$folder/bin"
export CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false ${CLUSTER_GOFLAGS:-}"
# Takes 4 GB, so it goes once everything is built. A build that was interrupted goes on with it.
export GOCACHE=$folder/go-build

say 'Unpacking containerd, runc and what else is missing here for a cluster, from the distribution'\''s packages'
type apt-get dpkg >/dev/null 2>&1 || skip 'No apt'
rm -rf "$folder/distro"
mkdir "$folder/distro"
cd "$folder/distro"
missing=(containernetworking-plugins)
for program in etcd:etcd-server containerd:containerd runc:runc iptables:iptables conntrack:conntrack ipset:ipset; do
    PATH=$PATH:/usr/sbin type "${program%:*}" >/dev/null 2>&1 || missing+=("${program#*:}")
done
mapfile -t packages < <(with_dependencies "${missing[@]}")
unpack_packages "${packages[@]}" || skip 'The packages cannot be loaded'
# The installation of the package would make these links. The program does what the name of the link says.
if [ -e usr/sbin/xtables-nft-multi ]; then
    for name in {iptables,ip6tables}{,-save,-restore}; do ln -sf xtables-nft-multi "usr/sbin/$name"; done
fi

cd "$module"
"${GO:-go}" mod download || skip 'The modules of Kubernetes cannot be loaded'
kubernetes=$("${GO:-go}" list -m -f '{{.Version}}' k8s.io/kubernetes)
say "Building Kubernetes $kubernetes (takes a quarter of an hour on two idle cores, once)"
IFS=.v read -r _ major minor _ <<<"$kubernetes"
set=()
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    set+=(-X "$package.gitVersion=$kubernetes" -X "$package.gitMajor=$major" -X "$package.gitMinor=$minor")
done
# Without symbols for debuggers, the build takes less time and half of the space.
"${GO:-go}" build -gcflags=all=-dwarf=false -ldflags "-s -w ${set[*]}" -o "$folder/bin/" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-proxy,kube-scheduler,kubectl,kubelet} ./pause
rm -rf "$GOCACHE"
installed cluster "$version"
