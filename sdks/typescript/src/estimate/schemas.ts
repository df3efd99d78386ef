/**
 * Function tools and JSON schemas as OpenAI's models get to read them.
 *
 * Functions are shown to a model as TypeScript. For the older models and for schemas of plain kinds that rendering and a
 * formula of OpenAI's cookbook are known, and the larger of the two counts; for everything else the longest of the likely
 * renderings does, JSON as it was sent among them.
 */

import type { Family } from "./families.js";
import type { Rendering, Tally } from "./tally.js";
import { dumped, fields, full, isMapping, type Mapping, plain, read, renderings, written } from "./values.js";

export const DEPTH_MAX = 64;
/** Around all functions; 9 and 12 are what the known formulas say. */
export const TOOLS_FRAME = 16;
/** Around one function; 7 to 10, and 3 where it has properties. */
export const FUNCTION_FRAME = 16;
export const PROPERTY_FRAME = 4;
/** The description of the wrapper through which two functions are called at once. */
export const PARALLEL_FRAME = 128;
export const SCHEMA_FRAME = 64;
export const JSON_OBJECT_FRAME = 32;

const COOKBOOK = /^(?:gpt-4o|chatgpt-4o|gpt-4(?!\.)|gpt-3\.5|gpt-35)/;
const KNOWN = new Set([
  "type",
  "description",
  "properties",
  "required",
  "items",
  "enum",
  "additionalProperties",
  "title",
  "$schema",
  "strict",
]);
const TYPES = new Map([
  ["string", "string"],
  ["number", "number"],
  ["integer", "number"],
  ["boolean", "boolean"],
  ["null", "null"],
]);

/** Adds the definitions of functions (`{name, description, parameters}`). */
export function addFunctions(tally: Tally, functions: readonly Mapping[], parallel = true): void {
  if (!functions.length) return;
  tally.add("tools", TOOLS_FRAME + (parallel && functions.length > 1 ? PARALLEL_FRAME : 0), "measured");
  for (const one of functions) {
    const [shown, nodes] = typescript(one);
    const texts: Rendering[] = [[shown, PROPERTY_FRAME * nodes]];
    if (!(isPublished(tally.family) && isPlain(read(one, "parameters")))) {
      texts.push(...renderings(one).map((text): Rendering => [text, 0]));
    }
    tally.rendered("tools", texts, FUNCTION_FRAME);
  }
}

/** Adds the schema that a structured answer has to follow. */
export function addSchema(tally: Tally, name: unknown, description: unknown, schema: unknown): void {
  tally.text("schema", name);
  tally.text("schema", description);
  tally.json("schema", schema ?? {}, SCHEMA_FRAME);
}

/** Returns a function as TypeScript, and how many properties and choices it has. */
export function typescript(one: Mapping): [string, number] {
  const lines = ["namespace functions {", ""];
  const description = read(one, "description");
  if (full(description)) lines.push(`// ${written(description)}`);
  const nodes = { count: 0 };
  const given = plain(read(one, "parameters"));
  const properties = isMapping(given) ? read(given, "properties") : null;
  const name = full(read(one, "name")) ? written(read(one, "name")) : "";
  if (isMapping(given) && isMapping(properties) && full(properties)) {
    lines.push(`type ${name} = (_: {`, ...propertiesOf(given, 0, nodes), "}) => any;");
  } else {
    lines.push(`type ${name} = () => any;`);
  }
  lines.push("", "} // namespace functions");
  return [lines.join("\n"), nodes.count];
}

interface Nodes {
  count: number;
}

function propertiesOf(schema: Mapping, depth: number, nodes: Nodes): string[] {
  const given = read(schema, "required");
  const required = new Set(Array.isArray(given) ? given : []);
  const indent = "  ".repeat(depth);
  const properties = read(schema, "properties");
  const lines: string[] = [];
  for (const [name, value] of full(properties) ? fields(properties) : []) {
    nodes.count++;
    const description = isMapping(value) ? read(value, "description") : null;
    if (full(description)) lines.push(`${indent}// ${written(description)}`);
    lines.push(`${indent}${name}${required.has(name) ? "" : "?"}: ${typeOf(value, depth, nodes)},`);
  }
  return lines;
}

function typeOf(schema: unknown, depth: number, nodes: Nodes): string {
  if (!isMapping(schema) || depth > DEPTH_MAX) return "any";
  const choices = read(schema, "enum");
  if (Array.isArray(choices)) {
    nodes.count += choices.length;
    return choices.map((choice) => dumped(choice, ", ", ": ")).join(" | ");
  }
  for (const name of ["anyOf", "oneOf", "allOf"]) {
    const some = read(schema, name);
    if (!Array.isArray(some)) continue;
    nodes.count += some.length;
    return some.map((one) => typeOf(one, depth, nodes)).join(" | ");
  }
  const kind = read(schema, "type");
  if (Array.isArray(kind)) {
    nodes.count += kind.length;
    // Each kind once: properties that were shown again for every one of them would double with every level.
    const kinds = [...new Set(kind.map((one) => (typeof one === "string" ? one : "any")))];
    return kinds.map((one) => kindOf(schema, one, depth + 1, nodes)).join(" | ");
  }
  const named = typeof kind === "string" ? kind : "any";
  const shaped = named !== "array" && Object.hasOwn(schema, "properties");
  return kindOf(schema, shaped ? "object" : named, depth, nodes);
}

function kindOf(schema: Mapping, kind: string, depth: number, nodes: Nodes): string {
  if (kind === "array") return `${typeOf(read(schema, "items"), depth + 1, nodes)}[]`;
  if (kind !== "object") return TYPES.get(kind) ?? "any";
  return `{\n${propertiesOf(schema, depth + 1, nodes).join("\n")}\n${"  ".repeat(depth)}}`;
}

function isPublished(family: Family): boolean {
  return family.vendor === "openai" && COOKBOOK.test(family.name);
}

/** Whether a schema consists of what the known rendering covers. */
function isPlain(schema: unknown, depth = 0): boolean {
  if (schema === null || schema === undefined) return true;
  if (!isMapping(schema) || depth > DEPTH_MAX) return false;
  if (!Object.keys(schema).every((name) => KNOWN.has(name))) return false;
  const kind = read(schema, "type");
  if (kind !== null && typeof kind !== "string") return false;
  if (isMapping(read(schema, "additionalProperties"))) return false;
  const items = read(schema, "items");
  if (items !== null && !isPlain(items, depth + 1)) return false;
  const properties = read(schema, "properties");
  if (!full(properties)) return true;
  return isMapping(properties) && Object.values(properties).every((one) => isPlain(one, depth + 1));
}
