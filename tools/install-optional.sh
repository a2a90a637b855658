#!/usr/bin/env bash
# install-optional.sh NAME: installs a package of the distribution that some tests need. Without it these are skipped and
# say so, so this script never fails.
set -euo pipefail

apt=$1
case $1 in
    iproute2) command=ip dnf=iproute tests='the tests in network namespaces' ;;
    gcc) command=gcc dnf=gcc tests='the tests of the C library with gcc' ;;
    clang) command=clang dnf=clang tests='the tests of the C library with clang' ;;
    valgrind) command=valgrind dnf=valgrind tests='the tests of the C library with valgrind' ;;
    jdk) command=javac apt=default-jdk-headless dnf=java-latest-openjdk-devel apk=openjdk17-jdk tests='the client in Java' ;;
    maven) command=mvn dnf=maven tests='the client in Java' ;;
    tmux) command=tmux dnf=tmux tests='the tests of `top` in a terminal' ;;
esac
# Namespaces need root even where iproute2 is installed.
if [ "$1" != iproute2 ] && command -v "$command" >/dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ]; then
    echo "==> Not root: $tests will be skipped"
    exit 0
fi
if command -v "$command" >/dev/null; then exit 0; fi
echo "==> Installing $1"
if command -v apt-get >/dev/null; then
    { apt-get -qq install --yes "$apt" || { apt-get -qq update && apt-get -qq install --yes "$apt"; }; } >/dev/null 2>&1
elif command -v dnf >/dev/null; then
    dnf --quiet --assumeyes install "$dnf"
elif command -v apk >/dev/null; then
    apk add --quiet "${apk:-$1}"
else
    false
fi || echo "==> No $1: $tests will be skipped"
