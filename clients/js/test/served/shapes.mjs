// The small language of the protocol vectors: names in texts, shapes of values (tests/vectors/README.md).

/** Puts names into texts; a text that is one name keeps the type of its value. */
export function filled(value, names) {
  if (Array.isArray(value)) return value.map((one) => filled(one, names));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [filled(name, names), filled(inner, names)]));
  }
  if (typeof value !== "string") return value;
  const whole = /^\$\{([^}]+)\}$/.exec(value);
  if (whole) return valueOf(whole[1], names);
  return value.replace(/\$\{([^}]+)\}/g, (_, name) => String(valueOf(name, names)));
}

function valueOf(name, names) {
  if (name in names) return names[name];
  const [, base, step] = /^(.+?)([+-]\d+)$/.exec(name) ?? [];
  if (base in names) return names[base] + Number(step);
  return `\${${name}}`; // not known yet
}

/** Returns the names that a step saves from an answer, by path. */
export function saved(save, answer) {
  const at = (path) => path.split(".").reduce((value, part) => value?.[part], answer);
  return Object.fromEntries(Object.entries(save ?? {}).map(([name, path]) => [name, at(path)]));
}

const DAY_MS = 86_400_000;
const KINDS = {
  "<any>": () => true,
  "<bool>": (value) => typeof value === "boolean",
  "<epoch>": (value) => Number.isInteger(value) && value >= 1 && value < 2 ** 53,
  "<int>": Number.isInteger,
  "<list>": Array.isArray,
  "<ms>": (value) => Number.isInteger(value) && Math.abs(value - Date.now()) < DAY_MS,
  "<number>": (value) => typeof value === "number",
  "<object>": (value) => value !== null && typeof value === "object" && !Array.isArray(value),
  "<rfc3339>": (value) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value),
  "<string>": (value) => typeof value === "string" && value !== "",
  "<uuid>": (value) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value),
};

/** Returns one sentence for each place where `got` does not have the shape. */
export function differences(got, shape, where = "") {
  if (Array.isArray(shape)) return ofList(got, shape, where);
  if (shape && typeof shape === "object") return ofObject(got, shape, where);
  if (typeof shape === "string" && /^<.*>$/.test(shape)) return isKind(got, shape) ? [] : [`${where}: ${JSON.stringify(got)} is not ${shape}`];
  return got === shape ? [] : [`${where}: ${JSON.stringify(got)} is not ${JSON.stringify(shape)}`];
}

function isKind(got, shape) {
  const [, kind, argument] = /^<(\w+):(.*)>$/.exec(shape) ?? [];
  if (kind === "has") return typeof got === "string" && got.includes(argument);
  if (kind === "max") return typeof got === "string" && got.length >= 1 && got.length <= Number(argument);
  return KINDS[shape](got);
}

function ofObject(got, shape, where) {
  if (!got || typeof got !== "object") return [`${where}: ${JSON.stringify(got)} is not an object`];
  return Object.entries(shape).flatMap(([name, inner]) => {
    if (name === "<exact>") return Object.keys(got).filter((more) => !(more in shape)).map((more) => `${where}.${more}: a member too many`);
    if (inner === "<absent>") return name in got ? [`${where}.${name}: is there`] : [];
    return name in got ? differences(got[name], inner, `${where}.${name}`) : [`${where}.${name}: is missing`];
  });
}

function ofList(got, shape, where) {
  if (!Array.isArray(got)) return [`${where}: is not a list`];
  const shapes = shape[0] === "<each>" ? got.map(() => shape[1]) : shape;
  if (got.length !== shapes.length) return [`${where}: ${got.length} items instead of ${shapes.length}`];
  return shapes.flatMap((inner, at) => differences(got[at], inner, `${where}[${at}]`));
}
