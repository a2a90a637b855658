"""Runs in the sandbox: brings up a cluster, and runs tests on it."""

import sys
import unittest

from cluster import cluster

cluster()
unittest.main(module=None, argv=sys.argv)
