#!/bin/sh
# Stands in for a node in the tests of every SDK. The child answers like a node, as far as the tests
# need it. The argument selects one deviation from a good node.
#
#   good      none
#   manual    each published broadcast comes back
#   burst     delivers 1,000 messages, m1 to m1000, after `ready`, and answers each `ack` slowly
#   flood     delivers 20 messages after `ready`, each among 200 broadcasts and 200 `peer_connected`
#   again     delivers message x1 after `ready`, like a sender that got no `ack`
#   joined    has one connected peer, and delivers messages m1 and m2 after `ready`
#   gone      answers every `ack` with MESSAGE_NOT_FOUND for all of its messages
#   busy      answers the first `ack` with BUSY
#   full      answers every `ack` with DISK_FULL
#   mute      reads every `send` and answers none
#   pause     stops reading after `connect` and writes a line every 50 ms; reads again after
#             $PAUSE_LINES lines (100)
#   version   speaks protocol 2
#   old       has version 0.0.1
#   silent    reads and never writes
#   garbage   writes lines that are not JSON or not an event between its lines
#   huge      writes a line of 3 MiB between its lines
#   split     writes `ready` in two parts, split within a character of two bytes
#   partial   exits with code 70 after `ready`, in the middle of a line
#   stderr    writes 1 MB to stderr before it answers
#   early     exits with code 64 before `ready`, with the reason on stderr
#   fatal     reports an `error` at the first `send` and exits with code 70
#   crash     exits with code 70 at the first `send`
#   holder    exits with code 70 at the first `send`; a grandchild holds stdout open for 20 s
#   deaf      reads, and ignores the end of its input and SIGTERM
#   stopping  reads, ignores the end of its input, and exits with code 4 at SIGTERM
#   stuck     does not read; SIGTERM ends it
#
# The variables MAX_INFLIGHT, MAX_INFLIGHT_BYTES and MAX_PAUSE_MS set limits in `ready`. Like a node
# with `--ack manual`, the child leaves the `ack` of mail to its parent.
mode=${1:-good}

say() { printf '%s\n' "$1"; }

ready() {
    protocol=1 version=${P2P_NODE_VERSION:-0.1.0}
    case $mode in
    version) protocol=2 ;;
    old) version=0.0.1 ;;
    esac
    printf '%s' '{"type":"ready","peerId":"12D3","address":"0xA","name":"n'
    case $mode in
    split) printf '\303'; sleep 0.05; printf '\251' ;;
    esac
    say '","role":"full","network":"dev","protocol":'$protocol',"version":"'$version'","features":["ack"],"limits":{"maxLineBytes":1048576,"maxInflight":'"${MAX_INFLIGHT:-1024}"',"maxDirectBytes":1040384,"maxTopicBytes":61440,"maxFileBytes":1073741824,"maxInflightBytes":'"${MAX_INFLIGHT_BYTES:-4194304}"',"maxPauseMs":'"${MAX_PAUSE_MS:-2000}"',"maxRequests":16384,"maxUnacked":16384},"addrs":["/ip4/127.0.0.1/tcp/4001/p2p/12D3"],"durable":false,"seq":1}'
}

# Delivers a message: mail ID, broadcast ID.
mail() { say '{"type":"message","from":"0xB","data":"'"$1"'","peerId":"12D3B","messageId":"'"$1"'","priority":"medium","sentAtMs":1,"receivedAtMs":2,"route":"direct","trust":"unverified"}'; }
broadcast() { say '{"type":"message","from":"0xB","data":"'"$1"'","peerId":"12D3B","messageId":"'"$1"'","topic":"t","priority":"medium","sentAtMs":1,"receivedAtMs":2,"route":"gossip","trust":"unverified"}'; }

# Writes the events that follow `ready`.
unsolicited() {
    number=0
    case $mode in
    burst)
        while [ $number -lt 1000 ]; do number=$((number + 1)); mail m$number; done ;;
    flood)
        while [ $number -lt 4000 ]; do
            number=$((number + 1))
            broadcast t$number
            say '{"type":"peer_connected","peerId":"12D3'$number'"}'
            [ $((number % 200)) -ne 0 ] || mail m$((number / 200))
        done ;;
    again) mail x1 ;;
    joined) mail m1; mail m2 ;;
    pause)
        while [ $number -lt "${PAUSE_LINES:-100}" ]; do
            number=$((number + 1))
            sleep 0.05
            say '{"type":"log","level":"info","namespace":"test","message":"busy"}'
        done ;;
    esac
}

case $mode in
early) echo 'the flag --nonsense is unknown' >&2; exit 64 ;;
stuck) exec sleep 1000 ;;
deaf) trap '' TERM ;;
stopping) trap 'exit 4' TERM ;;
stderr) head -c 1000000 /dev/zero | tr '\0' x >&2; echo ' the last words' >&2 ;;
esac

ignores_end() { [ "$mode" = deaf ] || [ "$mode" = stopping ]; }

while IFS= read -r line || ignores_end; do
    id=${line##*\"id\":}; id=${id%\}}
    case $mode in
    silent) continue ;;
    mute) case $line in *'"type":"send"'*) continue ;; esac ;;
    deaf | stopping) [ -n "$line" ] || { sleep 0.01; continue; } ;;
    garbage) say 'a library says hello'; say '[1]'; say ''; say '{"type":"tomorrow"}'; say '{"type":"message","from":7}' ;;
    huge) head -c 3145728 /dev/zero | tr '\0' x; say '' ;;
    esac
    case $line in
    *'"type":"connect"'*)
        ready
        say '{"type":"result","id":'"$id"',"command":"connect","seq":2}'
        unsolicited
        case $mode in
        partial) printf '%s' '{"type":"message","from":"0xB","data":'; exit 70 ;;
        esac ;;
    *'"type":"send"'*'"topic":'*)
        case $mode in
        manual)
            say '{"type":"message","from":"0xA","data":1,"peerId":"12D3","messageId":"t'"$id"'","topic":"t","priority":"medium","sentAtMs":1,"receivedAtMs":2,"route":"gossip","trust":"unverified"}' ;;
        esac
        say '{"type":"result","id":'"$id"',"command":"send","messageId":"t'"$id"'","peers":3}' ;;
    *'"type":"ack"'*)
        case $mode:$line in
        burst:*) sleep 0.02 ;;
        gone:*'"messageIds":'*)
            ids=${line##*\"messageIds\":}; ids=${ids%%]*}]
            say '{"type":"error","id":'"$id"',"code":"MESSAGE_NOT_FOUND","message":"given up","retryable":false,"details":{"messageIds":'"$ids"'}}'
            continue ;;
        gone:*)
            say '{"type":"error","id":'"$id"',"code":"MESSAGE_NOT_FOUND","message":"given up","retryable":false}'
            continue ;;
        busy:*)
            if [ -z "${refused-}" ]; then
                refused=1
                say '{"type":"error","id":'"$id"',"code":"BUSY","message":"later","retryable":true}'
                continue
            fi ;;
        full:*)
            say '{"type":"error","id":'"$id"',"code":"DISK_FULL","message":"the disk is full","retryable":true}'
            continue ;;
        esac
        say '{"type":"result","id":'"$id"',"command":"ack"}' ;;
    *'"type":"send"'*'"peerId":"nobody"'*)
        say '{"type":"error","id":'"$id"',"code":"PEER_NOT_FOUND","message":"who?","retryable":true,"details":{"a":1}}' ;;
    *'"type":"send"'*)
        case $mode in
        crash) echo 'a defect' >&2; exit 70 ;;
        fatal) say '{"type":"error","code":"INTERNAL","message":"a defect, told","retryable":true}'; exit 70 ;;
        holder) sleep 20 & exit 70 ;;
        esac
        say '{"type":"result","id":'"$id"',"command":"send","messageId":"m'"$id"'","delivery":"accepted","route":"auto"}'
        case $line in
        *'"priority":"low"'*)
            say '{"type":"delivery","messageId":"m'"$id"'","requestId":'"$id"',"state":"expired","code":"EXPIRED","attempts":2}' ;;
        *'"kind":"never"'*) ;;
        *)
            say '{"type":"message","from":"0xB","data":{"text":"h\u00e9"},"peerId":"12D3B","messageId":"r'"$id"'","priority":"medium","sentAtMs":1,"receivedAtMs":2,"route":"direct","trust":"unverified"}'
            say '{"type":"delivery","messageId":"m'"$id"'","requestId":'"$id"',"state":"delivered","attempts":1}' ;;
        esac ;;
    *'"type":"discover"'*)
        say '{"type":"peer_discovered","peerId":"p","topics":[],"address":"0xB","trust":"unverified","role":"full","addrs":[],"capabilities":[],"expiresAtMs":1,"requestId":'"$id"'}'
        case $line in
        *'"capability":"never"'*) ;;
        *) say '{"type":"result","id":'"$id"',"command":"discover","count":1}' ;;
        esac ;;
    *'"type":"cancel"'*)
        target=${line##*\"target\":}; target=${target%%,*}
        say '{"type":"error","id":'"$target"',"code":"CANCELLED","message":"given up","retryable":false}'
        say '{"type":"result","id":'"$id"',"command":"cancel","cancelled":true}' ;;
    *'"type":"peers"'*)
        case $mode in
        joined) say '{"type":"result","id":'"$id"',"command":"peers","count":1,"connected":[{"peerId":"12D3B","connectedForMs":1}]}' ;;
        *) say '{"type":"result","id":'"$id"',"command":"peers","count":0,"connected":[]}' ;;
        esac ;;
    *'"type":"shutdown"'*)
        ignores_end && continue
        say '{"type":"closing","reason":"shutdown"}'
        exit 0 ;;
    *)
        say '{"type":"result","id":'"$id"',"command":"any"}' ;;
    esac
done
exit 0
