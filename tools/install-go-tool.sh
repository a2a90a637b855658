#!/usr/bin/env bash
# install-go-tool.sh NAME: builds a program in Go into .tools/bin/.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

name=$1 note=
case $name in
    caddy)   module=github.com/caddyserver/caddy/v2/cmd/caddy version=$CADDY_VERSION note=' (takes minutes, once)' ;;
    ghz)     module=github.com/bojand/ghz/cmd/ghz version=$GHZ_VERSION ;;
    grpcurl) module=github.com/fullstorydev/grpcurl/cmd/grpcurl version=$GRPCURL_VERSION ;;
    helm)    module=helm.sh/helm/v3/cmd/helm version=$HELM_VERSION note=' (takes minutes, once)' ;;
    helm4)   module=helm.sh/helm/v4/cmd/helm version=$HELM4_VERSION note=' (takes minutes, once)' ;;
    kube-router) module=github.com/cloudnativelabs/kube-router/v2/cmd/kube-router version=$KUBE_ROUTER_VERSION note=' (takes minutes, once)' ;;
    nats-server) module=github.com/nats-io/nats-server/v2 version=$NATS_SERVER_VERSION note=' (takes a minute, once)' ;;
    *) fail "$name is not one of caddy, ghz, grpcurl, helm, helm4, kube-router, nats-server" ;;
esac

skip_if_installed "$name" "$version" "$BIN/$name"
need go
say "Installing $name $version$note"
# In a folder of its own, since helm and helm4 are both called helm.
new=$(mktemp -d "$TOOLS/new.XXXXXX")
trap 'rm -rf "$new"' EXIT
GOBIN=$new "${GO:-go}" install "$module@$version"
mv "$new"/* "$BIN/$name"
installed "$name" "$version"
