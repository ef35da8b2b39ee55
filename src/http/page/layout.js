// Force layout: nodes repel each other (Barnes–Hut), links pull, and all moves cool down until nothing moves.

// Share of its distance below which a cell of the tree counts as one body (Barnes and Hut use 0.5 to 1).
const THETA = 0.9;
const REPULSION = 420;
const LINK_LENGTH = 46;
const GRAVITY = 0.03;
// Nodes without links would drift away from the others.
const LONE_GRAVITY = 0.16;
const FRICTION = 0.6;
// The heat sinks by this share each step; below the last number nothing moves. 0.022 and 0.004 are 250 steps.
const COOLING = 0.022;
const CALM = 0.004;
// Deeper cells hold nodes at the same place together.
const MAX_DEPTH = 20;

// A place in the plane that depends on the id alone, so that a network looks alike each time.
function place(id, radius) {
  let hash = 2_166_136_261;
  for (let index = 0; index < id.length; index += 1) hash = Math.imul(hash ^ id.charCodeAt(index), 16_777_619) >>> 0;
  const angle = (hash / 2 ** 32) * 2 * Math.PI;
  const distance = radius * Math.sqrt(((hash * 7919) % 1009) / 1009);
  return { x: Math.cos(angle) * distance, y: Math.sin(angle) * distance };
}

// The cells of a quadtree, in arrays that grow as needed and are reused.
class Tree {
  constructor() {
    Object.assign(this, { used: 0, mass: [], sumX: [], sumY: [], leaf: [], size: [], child: [] });
  }

  cell(size) {
    const cell = this.used;
    this.used += 1;
    this.mass[cell] = this.sumX[cell] = this.sumY[cell] = 0;
    this.leaf[cell] = -1;
    this.size[cell] = size;
    for (let quarter = 0; quarter < 4; quarter += 1) this.child[cell * 4 + quarter] = -1;
    return cell;
  }

  add(cell, body) {
    this.mass[cell] += 1;
    this.sumX[cell] += body.x;
    this.sumY[cell] += body.y;
  }

  build(bodies) {
    let reach = 1;
    for (const body of bodies) reach = Math.max(reach, Math.abs(body.x), Math.abs(body.y));
    this.used = 0;
    this.cell(2 * reach);
    bodies.forEach((body, index) => this.insert(bodies, body, index, reach));
  }

  insert(bodies, body, index, reach) {
    let cell = 0;
    let [x, y, half] = [0, 0, reach];
    const quarter = (of) => (of.x > x ? 1 : 0) + (of.y > y ? 2 : 0);
    for (let depth = 0; ; depth += 1) {
      if (this.mass[cell] === 0) {
        this.leaf[cell] = index;
        this.add(cell, body);
        return;
      }
      const other = this.leaf[cell];
      if (other >= 0 && depth < MAX_DEPTH) {
        this.leaf[cell] = -1;
        const moved = this.cell(half);
        this.leaf[moved] = other;
        this.add(moved, bodies[other]);
        this.child[cell * 4 + quarter(bodies[other])] = moved;
      }
      this.add(cell, body);
      if (depth >= MAX_DEPTH) return;
      const which = quarter(body);
      let next = this.child[cell * 4 + which];
      if (next < 0) {
        next = this.cell(half);
        this.child[cell * 4 + which] = next;
      }
      half /= 2;
      x += which & 1 ? half : -half;
      y += which & 2 ? half : -half;
      cell = next;
    }
  }

  // Pushes a body away from all others.
  repel(body, index, strength, stack) {
    stack.length = 0;
    stack.push(0);
    while (stack.length > 0) {
      const cell = stack.pop();
      const mass = this.mass[cell];
      if (mass === 0 || this.leaf[cell] === index) continue;
      const x = body.x - this.sumX[cell] / mass;
      const y = body.y - this.sumY[cell] / mass;
      const square = x * x + y * y;
      const isFar = this.size[cell] * this.size[cell] < THETA * THETA * square;
      const [a, b, c, d] = this.child.slice(cell * 4, cell * 4 + 4);
      if (isFar || (a < 0 && b < 0 && c < 0 && d < 0)) {
        const force = (strength * mass) / Math.max(square, 16);
        body.vx += x * force;
        body.vy += y * force;
      } else {
        for (const next of [a, b, c, d]) if (next >= 0) stack.push(next);
      }
    }
  }
}

export class Layout {
  constructor() {
    this.bodies = [];
    this.links = [];
    this.heat = 0;
    // Width of the map divided by its height: the layout is to fill it.
    this.aspect = 1;
    this.index = new Map();
    this.tree = new Tree();
    this.stack = [];
  }

  // Takes the nodes and links of a report. Those that stay keep their places.
  update(ids, edges) {
    const before = this.index;
    const radius = 30 * Math.sqrt(ids.length + 1);
    let news = 0;
    this.bodies = ids.map((id) => {
      const known = before.get(id);
      if (known) return known;
      news += 1;
      return { id, ...place(id, radius), vx: 0, vy: 0, degree: 0 };
    });
    this.index = new Map(this.bodies.map((body) => [body.id, body]));
    for (const body of this.bodies) body.degree = 0;
    const count = this.links.length;
    this.links = [];
    for (const { source, target } of edges) {
      const [a, b] = [this.index.get(source), this.index.get(target)];
      if (!a || !b || a === b) continue;
      a.degree += 1;
      b.degree += 1;
      this.links.push([a, b]);
    }
    const gone = before.size + news - this.bodies.length;
    if (before.size === 0 && news > 0) this.heat = 1;
    else if (news > 0 || gone > 0) this.heat = Math.max(this.heat, Math.min(0.5, 0.08 + (news + gone) / this.bodies.length));
    // Links come and go all the time in a large network: a few of them must not move the map.
    else if (Math.abs(this.links.length - count) > 0.05 * count + 1) this.heat = Math.max(this.heat, 0.06);
  }

  isCalm() {
    return this.heat < CALM;
  }

  // One step of the layout.
  step() {
    const { bodies, links, tree, stack, heat } = this;
    tree.build(bodies);
    bodies.forEach((body, index) => tree.repel(body, index, REPULSION * heat, stack));
    for (const [a, b] of links) {
      const [x, y] = [b.x - a.x, b.y - a.y];
      const distance = Math.sqrt(x * x + y * y) || 1;
      const pull = (((distance - LINK_LENGTH) / distance) * heat * 0.8) / Math.min(a.degree, b.degree);
      const share = b.degree / (a.degree + b.degree);
      a.vx += x * pull * share;
      a.vy += y * pull * share;
      b.vx -= x * pull * (1 - share);
      b.vy -= y * pull * (1 - share);
    }
    for (const body of bodies) {
      const gravity = (body.degree === 0 ? LONE_GRAVITY : GRAVITY) * heat;
      body.vx = (body.vx - body.x * gravity) * FRICTION;
      body.vy = (body.vy - body.y * gravity * this.aspect) * FRICTION;
      body.x += body.vx;
      body.y += body.vy;
    }
    this.heat *= 1 - COOLING;
  }
}
