# The versions of the tools that the tests use. Sourced by lib.sh.
# Packages of Python, Node.js, h2spec and Kubernetes are pinned beside their tests: requirements.txt, package-lock.json and
# go.sum.
# shellcheck shell=bash disable=SC2034

BUF_VERSION=1.75.0

CADDY_VERSION=v2.11.9
GHZ_VERSION=v0.120.0
GRPCURL_VERSION=v1.9.4
HELM_VERSION=v3.22.0
HELM4_VERSION=v4.3.2
KUBE_ROUTER_VERSION=v2.1.0
NATS_SERVER_VERSION=v2.15.3

CARGO_CYCLONEDX_VERSION=0.5.9
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
