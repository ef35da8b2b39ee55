#!/bin/sh
# Two agents on this machine: alice sends bob a message by his Ethereum address. Needs only a POSIX
# shell and writes no file.
set -eu
node=${P2P_NODE_BIN:-target/release/p2p-node}

# Reads lines until an event of type $1, and stores that line in $line.
wait_for() {
    while read -r line; do
        case $line in *'"type":"'"$1"'"'*) return ;; esac
    done
    echo "the node exited before its event $1; see its stderr above" >&2
    return 1
}

# The first line is bob's process id. The trap stops bob by a signal, because bob ignores the end of
# his stdin.
sh -c 'echo $$; exec "$0" "$@"' "$node" --name bob --connect --on-eof stay </dev/null | {
    read -r bob
    trap 'kill "$bob" 2>/dev/null || :' EXIT
    wait_for ready
    address=${line#*'"address":"'} address=${address%%'"'*}
    entry=${line#*'"addrs":["'} entry=${entry%%'"'*}

    # At the end of her stdin, alice waits for the delivery, and exits with 0 only if it succeeded.
    printf '%s\n' '{"type":"send","id":1,"peerId":"'"$address"'","ttlMs":20000,"data":{"text":"hello bob"}}' |
        "$node" --name alice --connect --bootstrap "$entry" --require-delivery
    wait_for message
    echo "$line"
}
