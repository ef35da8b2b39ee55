#!/bin/sh
# Two agents on this machine: alice sends bob a message by his Ethereum address. POSIX shell and sed.
set -eu
node=${P2P_NODE_BIN:-target/release/p2p-node}
here=$(mktemp -d)
trap 'exec 3>&-; wait; rm -rf "$here"' EXIT

# bob reads a pipe that stays open until we close it, and writes to a file.
mkfifo "$here/to-bob"
"$node" --name bob <"$here/to-bob" >"$here/from-bob" &
exec 3>"$here/to-bob"
echo '{"type":"connect","port":0,"protocol":1}' >&3
for _ in $(seq 100); do
    grep -q '"type": *"ready"' "$here/from-bob" && break
    sleep 0.1
done
ready=$(grep '"type": *"ready"' "$here/from-bob")
address=$(echo "$ready" | sed 's/.*"address": *"\(0x[^"]*\)".*/\1/')
entry=$(echo "$ready" | sed 's/.*"addrs": *\["\([^"]*\)".*/\1/')

# alice is a pipeline: at the end of her input she waits for what becomes of her mail, and ends with 0 only if it was delivered.
printf '%s\n' "{\"type\":\"send\",\"id\":1,\"peerId\":\"$address\",\"ttlMs\":20000,\"data\":{\"text\":\"hello bob\"}}" |
    "$node" --name alice --connect --bootstrap "$entry" --require-delivery >"$here/from-alice" ||
    { cat "$here/from-alice" >&2; exit 1; }
grep '"type": *"delivery"' "$here/from-alice"
grep '"type": *"message"' "$here/from-bob"
