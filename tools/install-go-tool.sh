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
    nats-server) module=github.com/nats-io/nats-server/v2 version=$NATS_SERVER_VERSION note=' (takes a minute, once)' ;;
    *) fail "$name is not one of caddy, ghz, grpcurl, helm, nats-server" ;;
esac

skip_if_installed "$name" "$version" "$BIN/$name"
need go
say "Installing $name $version$note"
GOBIN=$BIN "${GO:-go}" install "$module@$version"
installed "$name" "$version"
