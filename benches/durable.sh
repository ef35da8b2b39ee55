#!/bin/sh
# A node with a data directory of its own, for harnesses that start many and kill them: NODE names the binary.
home=$(mktemp -d)
# What becomes the node cannot clear up after itself when it is killed.
(while kill -0 $$; do sleep 1; done; rm -rf "$home") </dev/null >/dev/null 2>&1 &
exec "${NODE:-target/release/p2p-node}" --data-dir "$home" "$@"
