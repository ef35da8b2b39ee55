#!/bin/sh
# An agent that greets and asks all others: `agent.sh <entry>`. Prints its address, reads the other addresses, and prints each
# received greeting and each answer.
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
mkfifo "$directory/in" "$directory/out"
"$P2P_NODE_BIN" <"$directory/in" >"$directory/out" &
exec 3>"$directory/in" 4<"$directory/out"

echo '{"type":"connect","port":0,"protocol":1,"bootstrapPeers":["'"$1"'"]}' >&3
next() { # the next event of these types
    while IFS= read -r line <&4; do
        type=$(printf '%s' "$line" | jq -r .type)
        case " $* " in *" $type "*) break ;; esac
    done
}
next ready
own=$(printf '%s' "$line" | jq -r .address)
echo '{"type":"handle","kinds":["language"],"id":"handle"}' >&3
next result
echo "$own"
read -r others
question='who, \u00e9\u2028\ud83d\ude00'
number=0
for other in $others; do
    printf '{"type":"send","peerId":"%s","data":{"text":"hello from shell, \\u00e9\\u2028\\ud83d\\ude00"}}\n' "$other" >&3
    printf '{"type":"request","id":"%s","peerId":"%s","kind":"language","data":{"text":"%s"}}\n' "$other" "$other" "$question" >&3
    number=$((number + 3))
done
# Each other agent greets, asks and answers.
while [ "$number" -gt 0 ]; do
    next message request response error
    case $type in
    message)
        printf '%s' "$line" | jq -r '"received \(.from) \(.data.text | @json)"' | sed 's/"//g; s/é/\\xe9/; s/😀/\\U0001f600/; s/\xe2\x80\xa8/\\u2028/'
        ;;
    request)
        printf '%s' "$line" | jq -c '{type: "respond", ticket, data: {language: "shell", question: .data.text}}' >&3
        ;;
    response)
        printf '%s' "$line" | jq -r --argjson question "\"$question\"" 'if .data.question == $question then "answer \(.from) \(.data.language)" else error("another question") end'
        ;;
    *)
        echo "$line" >&2
        exit 1
        ;;
    esac
    number=$((number - 1))
done
# The other agents may still wait for messages and answers.
read -r _ || true
echo '{"type":"shutdown"}' >&3
wait
