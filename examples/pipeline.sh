#!/bin/sh
# A shell pipeline with jq: subscribes to a topic for some seconds and prints each message with its
# sender.
#
#   sh examples/pipeline.sh <topic> <seconds> [<bootstrap multiaddr>]
set -eu
node=${P2P_NODE_BIN:-target/release/p2p-node}
topic=${1:?a topic} seconds=${2:?seconds} entry=${3:-}

# The node holds commands until it is ready. After the last command it receives for the time of
# --receive-after-eof and exits. A pipeline in sh returns the exit code of its last command, so the
# script passes the node's exit code through descriptor 4: 0 only if the node executed every command
# and a subscriber got the broadcast. The output lines go through descriptor 3.
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
