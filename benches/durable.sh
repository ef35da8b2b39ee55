#!/bin/sh
# Starts a node with its own data directory, for harnesses that start and kill many nodes. NODE
# names the binary.
home=$(mktemp -d)
# A killed node cannot delete its directory, so a second process does.
(while kill -0 $$; do sleep 1; done; rm -rf "$home") </dev/null >/dev/null 2>&1 &
exec "${NODE:-target/release/p2p-node}" --data-dir "$home" "$@"
