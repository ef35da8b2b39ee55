// Generates api.md, the reference of the API, from the declarations and doc comments in `dist`, which
// `tsc` writes: `api.mjs [--check]`.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const ts = createRequire(new URL("../dev/node_modules/any.js", import.meta.url))("typescript");
const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const [INDEX, OUTPUT] = [path("../dist/index.d.ts"), path("api.md")];

const program = ts.createProgram([INDEX], {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
  types: ["node"],
  typeRoots: [path("../dev/node_modules/@types")],
  skipLibCheck: true,
});
const checker = program.getTypeChecker();
const printer = ts.createPrinter({ removeComments: true });

const print = (node) => printer.printNode(ts.EmitHint.Unspecified, node, node.getSourceFile()).replace(/\s+/g, " ").replace(/;$/, "");
const escape = (text) => text.replaceAll("|", "\\|").replace(/\s*\n\s*/g, " ");
const has = (node, kind) => (ts.getCombinedModifierFlags(node) & kind) !== 0;
const isInternal = (member) => ts.getJSDocTags(member).some((tag) => tag.tagName.text === "internal");
const isHidden = (member) => isInternal(member) || has(member, ts.ModifierFlags.Private) || (member.name !== undefined && ts.isPrivateIdentifier(member.name));

/** Returns the doc comment of a symbol, with its `@throws`. */
function docOf(symbol) {
  const text = ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim();
  const throws = symbol.getJsDocTags(checker).filter((tag) => tag.name === "throws");
  const notes = throws.map((tag) => `Throws ${ts.displayPartsToString(tag.text).replace(/^\{(\w+)\}/, "`$1`").trim()}`);
  return [text, ...notes].filter((part) => part !== "").join("\n\n");
}

/** Returns a table of the fields of a class or an interface. */
function fieldTable(members) {
  if (members.length === 0) return [];
  const rows = members.map((member) => {
    const name = `${member.name.getText()}${member.questionToken === undefined ? "" : "?"}`;
    const type = member.type === undefined ? checker.typeToString(checker.getTypeAtLocation(member)) : print(member.type);
    return `| \`${name}\` | \`${escape(type)}\` | ${escape(docOf(checker.getSymbolAtLocation(member.name)))} |`;
  });
  return ["| | type | |", "|---|---|---|", ...rows, ""];
}

/** Returns the section of one export. */
function section(name, symbol) {
  const [node] = symbol.declarations;
  const lines = [`### ${name}`, ""];
  const parameters = (node.typeParameters ?? []).map(print).join(", ");
  const typed = parameters === "" ? name : `${name}<${parameters}>`;
  const doc = docOf(symbol);
  const body = doc === "" ? [] : [doc, ""];
  if (ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node)) {
    const members = node.members.filter((member) => !isHidden(member));
    const isField = (member) => ts.isPropertyDeclaration(member) || ts.isPropertySignature(member) || ts.isGetAccessor(member);
    const heritage = (node.heritageClauses ?? []).map((clause) => print(clause).trim()).join(" ");
    if (heritage !== "") lines.push("```ts", `${ts.isClassDeclaration(node) ? "class" : "interface"} ${typed} ${heritage}`, "```", "");
    lines.push(...body, ...fieldTable(members.filter((member) => isField(member) && !has(member, ts.ModifierFlags.Static))));
    for (const member of members) {
      if (!ts.isMethodDeclaration(member) && !ts.isMethodSignature(member)) continue;
      const method = docOf(checker.getSymbolAtLocation(member.name));
      lines.push("```ts", print(member), "```", "", ...(method === "" ? [] : [method, ""]));
    }
    return lines;
  }
  if (ts.isTypeAliasDeclaration(node) || ts.isFunctionDeclaration(node)) return [...lines, "```ts", print(node).replace(/^export (declare )?/, ""), "```", "", ...body];
  if (ts.isVariableDeclaration(node) && node.type !== undefined && ts.isTypeLiteralNode(node.type)) return [...lines, ...body, ...fieldTable([...node.type.members])];
  return [...lines, "```ts", `const ${name}: ${checker.typeToString(checker.getTypeOfSymbol(symbol))}`, "```", "", ...body];
}

/** Returns the group of an export in the reference. */
function groupOf(name, symbol) {
  const [node] = symbol.declarations;
  const file = node.getSourceFile().fileName;
  if (file.endsWith("/types.d.ts")) return "The contract of the node";
  if (file.endsWith("/errors.d.ts")) return "Errors";
  return "The node";
}

const groups = new Map([["The node", []], ["Errors", []], ["The contract of the node", []]]);
const exported = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(INDEX)));
const FIRST = ["P2PNode", "Options"];
const place = ({ name }) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
exported.sort((a, b) => place(a) - place(b) || (a.name < b.name ? -1 : 1));
for (const alias of exported) {
  const symbol = alias.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(alias) : alias;
  if (symbol.declarations === undefined) throw new Error(`${alias.name} has no declaration`);
  groups.get(groupOf(alias.name, symbol)).push(...section(alias.name, symbol));
}
const text = [
  "# Reference of the API",
  "",
  "Generated by `docs/api.mjs` from the SDK's types and doc comments; not to be edited. Times are in milliseconds, sizes in bytes.",
  "",
  ...[...groups].flatMap(([title, lines]) => [`## ${title}`, "", ...lines]),
].join("\n").trimEnd();

if (process.argv[2] === "--check") {
  if (readFileSync(OUTPUT, "utf8") !== `${text}\n`) {
    console.error("docs/api.md is outdated: run `node docs/api.mjs`");
    process.exit(1);
  }
} else {
  writeFileSync(OUTPUT, `${text}\n`);
}
