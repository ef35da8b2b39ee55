// A simulated network: nodes, links, messages and events, all from one seed.

const START_MS = Date.UTC(2026, 0, 15, 12, 0, 0);
const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const NAMES = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj", "olivia", "peggy",
  "rupert", "sybil", "trent", "victor", "walter", "yusuf"];
const CAPABILITIES = ["review", "translate", "build", "index", "consensus", "archive", "search"];
const REGIONS = ["eu-central", "us-east", "ap-south"];
const TOPICS = ["builds", "prices", "votes", "alerts"];

// Mulberry32: a small generator with a seed.
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Network {
  constructor(count, seed = 1) {
    this.random = generator(seed);
    this.timeMs = START_MS;
    this.counts = { sent: 4120, received: 9875, delivered: 4011, expired: 12, dropped: 31, duplicate: 288 };
    this.phase = 0;
    this.nodes = Array.from({ length: count }, (_, index) => this.node(index, count));
    this.edges = this.links();
    const [self] = this.nodes;
    const near = new Set(this.edges.flatMap(({ source, target }) => (source === self.peerId ? [target] : target === self.peerId ? [source] : [])));
    for (const node of this.nodes) {
      node.isConnected = near.has(node.peerId);
      node.peers = this.edges.filter(({ source, target }) => source === node.peerId || target === node.peerId).length;
      if (node.isConnected) node.latencyMs = Math.round((8 + this.random() * 120) * 10) / 10;
    }
    this.inbound = this.outbound = 3_400_000;
  }

  pick(items) {
    return items[Math.floor(this.random() * items.length)];
  }

  text(alphabet, length) {
    return Array.from({ length }, () => this.pick(alphabet)).join("");
  }

  node(index, count) {
    const isSelf = index === 0;
    const isActive = isSelf || this.random() > 0.06;
    const bootstraps = Math.max(1, Math.min(5, Math.round(count / 40)));
    const role = !isSelf && index <= bootstraps ? "bootstrap" : !isSelf && this.random() < 0.18 ? "light" : "full";
    const fate = this.random();
    const health = fate < 0.8 ? 82 + this.random() * 18 : fate < 0.95 ? 52 + this.random() * 26 : 12 + this.random() * 36;
    const base = NAMES[index % NAMES.length];
    return {
      peerId: `12D3KooW${this.text(BASE58, 44)}`,
      address: `0x${this.text("0123456789abcdef", 40)}`,
      ...(role === "bootstrap" ? { name: `entry-${index}` } : this.random() < 0.9 && { name: index < NAMES.length ? base : `${base}-${Math.floor(index / NAMES.length)}` }),
      role,
      version: this.random() < 0.85 ? "0.5.0" : "0.4.2",
      capabilities: role === "bootstrap" ? [] : CAPABILITIES.filter(() => this.random() < 0.22),
      region: this.pick(REGIONS),
      isSelf,
      isConnected: false,
      isActive,
      firstSeenMs: START_MS - Math.floor(this.random() * 86_400_000),
      lastSeenMs: START_MS - (isActive ? Math.floor(this.random() * 60_000) : 320_000 + Math.floor(this.random() * 2_000_000)),
      ...(this.random() < 0.92 && { healthScore: Math.round(health) }),
      reputation: Math.round((0.6 + this.random() * 0.4) * 100) / 100,
      uptimeMs: Math.floor(this.random() * 400_000_000),
      binding: isSelf || this.random() < 0.9 ? "proven" : "unproven",
      addrs: [`/ip4/192.0.2.${1 + (index % 250)}/tcp/4001`, `/ip4/192.0.2.${1 + (index % 250)}/udp/4001/quic-v1`],
    };
  }

  // Links each node to some of its region and to a bootstrap node, as discovery does.
  links() {
    const edges = new Map();
    const link = (a, b) => {
      if (a === b) return;
      const [source, target] = [a.peerId, b.peerId].sort();
      edges.set(source + target, { source, target });
    };
    const active = this.nodes.filter((node) => node.isActive);
    const entries = active.filter((node) => node.role === "bootstrap");
    for (const node of active) {
      if (entries.length > 0) link(node, this.pick(entries));
      const near = active.filter((other) => other.region === node.region);
      const degree = node.isSelf ? Math.min(12, active.length - 1) : node.role === "light" ? 1 : 2;
      for (let made = 0; made < degree; made += 1) link(node, this.pick(this.random() < 0.85 ? near : active));
    }
    return [...edges.values()];
  }

  // Moves the time on and returns the events.
  step(ms) {
    this.timeMs += ms;
    this.phase += ms / 1000;
    const seconds = ms / 1000;
    const wave = 1 + 0.5 * Math.sin(this.phase / 17) + 0.3 * this.random();
    const sent = Math.round(6 * wave * seconds);
    const received = Math.round(11 * wave * seconds);
    this.counts.sent += sent;
    this.counts.received += received;
    this.counts.delivered += Math.max(0, sent - (this.random() < 0.15 ? 1 : 0));
    if (this.random() < 0.12) this.counts.dropped += 1;
    this.inbound += received * 900;
    this.outbound += sent * 900;
    for (const node of this.nodes) if (node.isConnected || node.isSelf) node.lastSeenMs = this.timeMs;
    return this.events();
  }

  events() {
    const connected = this.nodes.filter((node) => node.isConnected);
    if (connected.length === 0) return [];
    const node = this.pick(connected);
    const made = [
      { kind: "message", text: `from ${node.address}`, peerId: node.peerId },
      { kind: "broadcast", text: `from ${node.address}`, peerId: node.peerId, topic: this.pick(TOPICS) },
      { kind: "delivery", text: "delivered" },
      { kind: "peer_discovered", text: `${node.address} ${node.name ?? ""}`, peerId: node.peerId },
      { kind: "log", text: "dht: the table of the DHT was refreshed" },
    ];
    return [{ timeMs: this.timeMs, ...this.pick(made) }];
  }

  healthCauses(active) {
    const causes = [];
    if (active < 10) {
      causes.push({ cause: "few_peers", penalty: (10 - active) * 5, value: active, text: `Only ${active} peers are active; 10 are enough.` });
    }
    return causes;
  }

  report() {
    const { counts, nodes } = this;
    const others = nodes.filter((node) => !node.isSelf);
    const active = others.filter((node) => node.isActive).length;
    const pings = nodes.flatMap((node) => node.latencyMs ?? []);
    const causes = this.healthCauses(active);
    const healthScore = Math.max(0, 100 - causes.reduce((sum, { penalty }) => sum + penalty, 0));
    const count = (values) => values.reduce((all, value) => ({ ...all, [value]: (all[value] ?? 0) + 1 }), {});
    const share = (factor) => ({ sent: Math.round(counts.sent * factor), received: Math.round(counts.received * factor), delivered: Math.round(counts.delivered * factor) });
    const swing = 1 + 0.25 * Math.sin(this.phase / 9);
    const mean = pings.length > 0 ? pings.reduce((sum, value) => sum + value, 0) / pings.length : null;
    const messageRate = 17 * swing;
    const dropRate = counts.dropped / (counts.sent + counts.received);
    nodes[0].healthScore = healthScore;
    return {
      timeMs: this.timeMs,
      metrics: { totalPeers: others.length, activePeers: active, latencyMs: mean, messageRate, consensusParticipation: 0.82, healthScore, causes },
      topology: { nodes: structuredClone(nodes), edges: structuredClone(this.edges), complete: true },
      messages: { ...counts, byPriority: { high: share(0.1), medium: share(0.7), low: share(0.2) } },
      latency: {
        ackMs: { p50: 42 * swing, p95: 130 * swing, p99: 310 * swing, count: counts.delivered },
        pingMs: { p50: 31 * swing, p95: 88 * swing, p99: 127 * swing, count: 900 },
      },
      bandwidth: {
        "/p2p-node/mail/1": { inBytes: this.inbound, outBytes: this.outbound },
        "/meshsub/1.1.0": { inBytes: this.inbound * 2, outBytes: this.outbound * 2 },
        "/ipfs/kad/1.0.0": { inBytes: 512_000, outBytes: 498_000 },
      },
      topics: TOPICS.map((topic, index) => ({ topic, meshPeers: 6 - index, subscribers: Math.max(1, Math.round(active / (index + 2))), received: 900 - index * 130, sent: 140 - index * 30, rate: (4 - index) * swing })),
      distribution: {
        byRole: count(nodes.map((node) => node.role)),
        byCapability: count(nodes.flatMap((node) => node.capabilities)),
        byVersion: count(nodes.map((node) => node.version)),
        byRegion: count(nodes.map((node) => node.region)),
      },
      performance: { networkEfficiency: active > 0 ? messageRate / active : 0, consensusHealth: 0.82, connectionStability: 0.94, messageSuccessRate: 1 - dropRate },
      load: 0.23,
      limitsHit: { rate_limited_frames: 14 },
      bans: 1,
      registry: null,
    };
  }
}
