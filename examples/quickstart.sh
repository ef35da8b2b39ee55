#!/bin/sh
# Two agents on this machine: alice sends bob a message by his Ethereum address. POSIX shell alone, and no file is written.
set -eu
node=${P2P_NODE_BIN:-target/release/p2p-node}

# Reads lines up to one of this type, and puts it into $line.
wait_for() {
    while read -r line; do
        case $line in *'"type":"'"$1"'"'*) return ;; esac
    done
    echo "the node ended before it said $1" >&2
    return 1
}

# Before bob's lines comes his process id: he has no input that could end, so it takes a signal to end him.
sh -c 'echo $$; exec "$0" "$@"' "$node" --name bob --connect --on-eof stay </dev/null | {
    read -r bob
    trap 'kill "$bob" 2>/dev/null || :' EXIT
    wait_for ready
    address=${line#*'"address":"'} address=${address%%'"'*}
    entry=${line#*'"addrs":["'} entry=${entry%%'"'*}

    # alice is a pipeline: at the end of her input she waits for what becomes of her mail, and ends with 0 only if it was delivered.
    printf '%s\n' '{"type":"send","id":1,"peerId":"'"$address"'","ttlMs":20000,"data":{"text":"hello bob"}}' |
        "$node" --name alice --connect --bootstrap "$entry" --require-delivery
    wait_for message
    echo "$line"
}
