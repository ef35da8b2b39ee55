// The stream of the node: server-sent events, read by fetch because EventSource cannot send a token.

// Shortest and longest wait before the page connects anew, in ms. Our choice: a restart of a node takes seconds.
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;
// Silence after which the page gives a connection up, in ms. The node sends a report each second.
const MAX_SILENCE = 10_000;
// Longest event, in characters: several times the longest report.
const MAX_EVENT = 16 * 1024 * 1024;
const TOKEN = "p2p-node.token";

// Takes the token out of the address bar, and keeps it for this tab.
function token() {
  const match = /[#&]token=([^&]*)/.exec(location.hash);
  try {
    if (match) {
      sessionStorage.setItem(TOKEN, decodeURIComponent(match[1]));
      history.replaceState(null, "", location.pathname);
    }
    return sessionStorage.getItem(TOKEN);
  } catch {
    // Without storage, or with a badly encoded token, the address bar stays as it is.
    return match ? match[1] : null;
  }
}

// Splits a stream of text into events, and calls `on(name, data)` for each.
export function parser(on) {
  let rest = "";
  return (text) => {
    rest += text;
    if (rest.length > MAX_EVENT) throw new Error("the node sent an event that is too long");
    const blocks = rest.replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      }
      if (data.length > 0) on(name, data.join("\n"));
    }
  };
}

async function read(response, on, heard) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const push = parser((name, data) => {
    try {
      on(name, JSON.parse(data));
    } catch (error) {
      throw new Error(`the page cannot show what the node sent: ${error.message}`, { cause: error });
    }
  });
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    push(value);
  }
}

// Follows the stream for ever. `on(name, data)` gets each event; `state(name, text, wait)` gets each change of
// the connection: `connecting`, `live`, `disconnected` or `refused`.
export async function follow(on, state) {
  let wait = FIRST_WAIT;
  let wake = () => {};
  addEventListener("hashchange", () => wake());
  addEventListener("online", () => wake());
  for (;;) {
    const abort = new AbortController();
    let silence = setTimeout(() => abort.abort(), MAX_SILENCE);
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), MAX_SILENCE);
    };
    let reason = "the node closed the connection";
    let name = "disconnected";
    try {
      const secret = token();
      const headers = { accept: "text/event-stream", ...(secret && { authorization: `Bearer ${secret}` }) };
      const response = await fetch("/api/stream", { headers, signal: abort.signal, cache: "no-store" });
      if (response.ok) {
        await read(response, (event, data) => {
          wait = FIRST_WAIT;
          state("live", "");
          on(event, data);
        }, heard);
      } else if (response.status === 401) {
        name = "refused";
        reason = "the node asks for its token: open this page with #token=… at the end of its address";
      } else {
        reason = `the node answered with status ${response.status}`;
      }
    } catch (error) {
      // fetch tells of the network by a TypeError.
      const text = error instanceof TypeError ? `the node cannot be reached (${error.message})` : error.message;
      reason = abort.signal.aborted ? "the node is silent" : text;
    }
    clearTimeout(silence);
    abort.abort();
    // Half of the wait is random, so that many pages do not come back at once.
    const pause = wait * (0.5 + Math.random() / 2);
    wait = Math.min(LONGEST_WAIT, wait * 2);
    state(name, reason, pause);
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, pause);
    });
  }
}
