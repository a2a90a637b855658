#!/usr/bin/env bash
# build-java-client.sh: builds the Java client of the tests, with the protos under proto/, into .tools/java: classes, and dependency with
# the jars that they need.
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

say 'Building the Java client'
rm -rf "$TOOLS/java"
"${MVN:-mvn}" --batch-mode --quiet -Dstyle.color=never -f "$ROOT/tests/interop/java/pom.xml" -Dmaven.repo.local="$TOOLS/maven" -Doutput="$TOOLS/java" \
    compile dependency:copy-dependencies
