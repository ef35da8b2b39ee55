#!/bin/sh
# A child that stands in for a node in the tests of every SDK: it answers as a node would, as far as those tests ask, and
# misbehaves in the one way that its argument names.
#
#   good      in no way
#   manual    in no way, but it leaves the `ack` of mail to its parent, and what is published comes back as a broadcast
#   version   it speaks protocol 2
#   old       its version is 0.0.1
#   silent    it reads and never says anything
#   garbage   what is not JSON, or not an event, stands between its lines
#   partial   its last line has no end: it dies in the middle of it, after `ready`
#   stderr    it floods stderr with 1 MB before it answers
#   early     it exits with code 64 before it is ready, and says why on stderr
#   crash     it exits with code 70 at the first `send`
#   deaf      it reads, and neither the end of its input nor SIGTERM ends it
#   stopping  it reads, and does not end with its input, but with code 4 at SIGTERM
#   stuck     it does not read at all, and SIGTERM ends it
#   huge      a line of 3 MiB stands between its lines
#   split     its lines come in two halves, cut within a character of two bytes
#   holder    it exits with code 70 at the first `send`, while a grandchild holds its stdout for 20 s
mode=${1:-good}

say() { printf '%s\n' "$1"; }

ready() {
    protocol=1 version=${P2P_NODE_VERSION:-0.1.0} features=
    case $mode in
    manual) features='"ack"' ;;
    version) protocol=2 ;;
    old) version=0.0.1 ;;
    esac
    printf '%s' '{"type":"ready","peerId":"12D3","address":"0xA","name":"n'
    case $mode in
    split) printf '\303'; sleep 0.05; printf '\251' ;;
    esac
    say '","role":"full","network":"dev","protocol":'$protocol',"version":"'$version'","features":['"$features"'],"limits":{"maxLineBytes":1048576,"maxInflight":1024,"maxDirectBytes":1040384,"maxTopicBytes":61440,"maxInflightBytes":4194304,"maxPauseMs":'${MAX_PAUSE_MS:-2000}',"maxUnacked":16384},"addrs":["/ip4/127.0.0.1/tcp/4001/p2p/12D3"],"durable":false,"seq":1}'
}

case $mode in
early) echo 'the flag --nonsense is unknown' >&2; exit 64 ;;
stuck) exec sleep 1000 ;;
deaf) trap '' TERM ;;
stopping) trap 'exit 4' TERM ;;
stderr) head -c 1000000 /dev/zero | tr '\0' x >&2; echo ' the last words' >&2 ;;
esac

lasts() { [ "$mode" = deaf ] || [ "$mode" = stopping ]; }

while IFS= read -r line || lasts; do
    id=${line##*\"id\":}; id=${id%\}}
    case $mode in
    silent) continue ;;
    deaf | stopping) [ -n "$line" ] || { sleep 0.01; continue; } ;;
    garbage) say 'a library says hello'; say '[1]'; say ''; say '{"type":"tomorrow"}'; say '{"type":"message","from":7}' ;;
    huge) head -c 3145728 /dev/zero | tr '\0' x; say '' ;;
    esac
    case $line in
    *'"type":"connect"'*)
        ready
        say '{"type":"result","id":'"$id"',"command":"connect","seq":2}'
        case $mode in
        partial) printf '%s' '{"type":"message","from":"0xB","data":'; exit 70 ;;
        esac ;;
    *'"type":"send"'*'"topic":'*)
        case $mode in
        manual)
            say '{"type":"message","from":"0xA","data":1,"peerId":"12D3","messageId":"t'"$id"'","topic":"t","priority":"medium","sentAtMs":1,"receivedAtMs":2,"route":"gossip","trust":"unverified"}' ;;
        esac
        say '{"type":"result","id":'"$id"',"command":"send","messageId":"t'"$id"'","peers":3}' ;;
    *'"type":"ack"'*'"messageId":"t'*)
        say '{"type":"error","id":'"$id"',"code":"MESSAGE_NOT_FOUND","message":"it waits for no ack","retryable":false}' ;;
    *'"type":"send"'*'"peerId":"nobody"'*)
        say '{"type":"error","id":'"$id"',"code":"PEER_NOT_FOUND","message":"who?","retryable":true,"details":{"a":1}}' ;;
    *'"type":"send"'*)
        case $mode in
        crash) echo 'a defect' >&2; exit 70 ;;
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
        say '{"type":"peer_discovered","peerId":"p","topics":[],"address":"0xB","role":"full","addrs":[],"capabilities":[],"expiresAtMs":1,"requestId":'"$id"'}'
        case $line in
        *'"capability":"never"'*) ;;
        *) say '{"type":"result","id":'"$id"',"command":"discover","count":1}' ;;
        esac ;;
    *'"type":"cancel"'*)
        target=${line##*\"target\":}; target=${target%%,*}
        say '{"type":"error","id":'"$target"',"code":"CANCELLED","message":"given up","retryable":false}'
        say '{"type":"result","id":'"$id"',"command":"cancel","cancelled":true}' ;;
    *'"type":"shutdown"'*)
        lasts && continue
        say '{"type":"closing","reason":"shutdown"}'
        exit 0 ;;
    *)
        say '{"type":"result","id":'"$id"',"command":"any"}' ;;
    esac
done
exit 0
