#!/bin/sh
# An agent that greets all others: `agent.sh <entry>`. Prints its address, reads the other addresses, and prints each
# received greeting.
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
mkfifo "$directory/in" "$directory/out"
"$P2P_NODE_BIN" <"$directory/in" >"$directory/out" &
exec 3>"$directory/in" 4<"$directory/out"

echo '{"type":"connect","port":0,"protocol":1,"bootstrapPeers":["'"$1"'"]}' >&3
next() { # the next event of a type
    while IFS= read -r line <&4; do
        [ "$(printf '%s' "$line" | jq -r .type)" = "$1" ] && break
    done
}
next ready
printf '%s' "$line" | jq -r .address
read -r others
number=0
for other in $others; do
    printf '{"type":"send","peerId":"%s","data":{"text":"hello from shell, \\u00e9\\u2028\\ud83d\\ude00"}}\n' "$other" >&3
    number=$((number + 1))
done
while [ "$number" -gt 0 ]; do
    next message
    printf '%s' "$line" | jq -r '"received \(.from) \(.data.text | @json)"' | sed 's/"//g; s/é/\\xe9/; s/😀/\\U0001f600/; s/\xe2\x80\xa8/\\u2028/'
    number=$((number - 1))
done
# The other agents may still wait for messages.
read -r _ || true
echo '{"type":"shutdown"}' >&3
wait
