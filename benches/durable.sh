#!/bin/sh
# A node with a data directory of its own, for harnesses that start many: NODE names the binary.
exec "${NODE:-target/release/p2p-node}" --data-dir "$(mktemp -d)" "$@"
