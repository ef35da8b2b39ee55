#!/bin/sh
# A shell pipeline with jq: asks a node for news of a topic for some seconds, and prints who says what.
#
#   sh examples/pipeline.sh <topic> <seconds> [<bootstrap multiaddr>]
set -eu
node=${P2P_NODE_BIN:-target/release/p2p-node}
topic=${1:?a topic} seconds=${2:?seconds} entry=${3:-}

# Commands are held until the node is ready; after the last one it goes on receiving for the time of --receive-after-eof, and ends. The exit code of a
# pipeline in sh is that of its last command, so that of the node comes by hand, through descriptor 4: 0 only if everything was carried out and
# heard. The lines for the reader go through descriptor 3.
exec 3>&1
code=$({
    jq -nc --arg topic "$topic" --arg entry "$entry" '
        {type: "connect", port: 0, protocol: 1, bootstrapPeers: [$entry | select(. != "")]},
        {type: "subscribe", topic: $topic},
        {type: "send", topic: $topic, data: "the pipeline is listening"}' |
        { "$node" --receive-after-eof "${seconds}s" --require-delivery && echo 0 >&4 || echo $? >&4; } |
        jq -r --unbuffered 'select(.type == "message") | "\(.from[0:8]) says \(.data)"' >&3
} 4>&1)
exit "$code"
