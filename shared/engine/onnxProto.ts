/**
 * @file Writes an ONNX ModelProto: just the fields a lowered graph needs, in protobuf's wire format. Field numbers from
 * onnx.proto3 (IR version 10).
 */

export type OnnxType = "float32" | "int32" | "int64";

export type OnnxAttribute =
  number | string | readonly number[] | { readonly float: number } | { readonly graph: OnnxGraph };

export type OnnxNode = {
  readonly op: string;
  /** "" is an optional input left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Numbers are ints unless wrapped as `{ float }`. */
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
  /** "" for ONNX's own operators. */
  readonly domain?: string;
};

export type OnnxValue = { readonly name: string; readonly type: OnnxType; readonly shape: readonly number[] };

/** A tensor whose shape ONNX Runtime finds out. */
export type OnnxUnshaped = { readonly name: string; readonly type: OnnxType; readonly shape?: undefined };

/** A list of tensors, empty or not. */
export type OnnxSequence = { readonly name: string; readonly sequenceOf: OnnxType };

export type OnnxConstant = OnnxValue & { readonly values: readonly number[] };

export type OnnxGraph = {
  readonly nodes: readonly OnnxNode[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly (OnnxValue | OnnxUnshaped | OnnxSequence)[];
  readonly constants: readonly OnnxConstant[];
};

/** ONNX 20 has Gelu; com.microsoft is ONNX Runtime's own set. */
const OPSETS = [
  { domain: "", version: 20 },
  { domain: "com.microsoft", version: 1 },
];

export function encodeModel(graph: OnnxGraph): Uint8Array {
  return message([
    intField(1, 10),
    textField(2, "manyhands"),
    bytesField(7, graphProto(graph)),
    ...OPSETS.map(({ domain, version }) => bytesField(8, message([textField(1, domain), intField(2, version)]))),
  ]);
}

function graphProto({ nodes, inputs, outputs, constants }: OnnxGraph): Uint8Array {
  return message([
    ...nodes.map((node, i) => bytesField(1, nodeProto(node, `n${i}`))),
    textField(2, "step"),
    ...constants.map((constant) => bytesField(5, tensorProto(constant))),
    ...inputs.map((value) => bytesField(11, valueProto(value))),
    ...outputs.map((value) => bytesField(12, "sequenceOf" in value ? sequenceProto(value) : valueProto(value))),
  ]);
}

function nodeProto({ op, inputs, outputs, attributes = {}, domain = "" }: OnnxNode, name: string): Uint8Array {
  return message([
    ...inputs.map((input) => textField(1, input)),
    ...outputs.map((output) => textField(2, output)),
    textField(3, name),
    textField(4, op),
    ...Object.entries(attributes).map(([key, value]) => bytesField(5, attributeProto(key, value))),
    textField(7, domain),
  ]);
}

function attributeProto(name: string, value: OnnxAttribute): Uint8Array {
  const start = textField(1, name);
  if (typeof value === "string") return message([start, textField(4, value), intField(20, 3)]);
  if (typeof value === "number") return message([start, intField(3, value), intField(20, 2)]);
  if ("float" in value) return message([start, floatField(2, value.float), intField(20, 1)]);
  if ("graph" in value) return message([start, bytesField(6, graphProto(value.graph)), intField(20, 5)]);
  return message([start, ...value.map((item) => intField(8, item)), intField(20, 7)]);
}

const typeCodes: Readonly<Record<OnnxType, number>> = { float32: 1, int32: 6, int64: 7 };

function tensorProto({ name, type, shape, values }: OnnxConstant): Uint8Array {
  const raw = {
    float32: () => Float32Array.from(values),
    int32: () => Int32Array.from(values),
    int64: () => BigInt64Array.from(values, BigInt),
  }[type]();
  return message([
    ...shape.map((extent) => intField(1, extent)),
    intField(2, typeCodes[type]),
    textField(8, name),
    bytesField(9, new Uint8Array(raw.buffer)),
  ]);
}

function valueProto({ name, type, shape }: OnnxValue | OnnxUnshaped): Uint8Array {
  const dimensions = shape?.map((extent) => bytesField(1, message([intField(1, extent)])));
  const known = dimensions ? [bytesField(2, message(dimensions))] : [];
  const tensor = message([intField(1, typeCodes[type]), ...known]);
  return message([textField(1, name), bytesField(2, message([bytesField(1, tensor)]))]);
}

function sequenceProto({ name, sequenceOf }: OnnxSequence): Uint8Array {
  const element = bytesField(1, message([intField(1, typeCodes[sequenceOf])]));
  return message([textField(1, name), bytesField(2, message([bytesField(4, message([bytesField(1, element)]))]))]);
}

function message(fields: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(fields.reduce((length, field) => length + field.length, 0));
  let offset = 0;
  for (const field of fields) {
    whole.set(field, offset);
    offset += field.length;
  }
  return whole;
}

function intField(number: number, value: number): Uint8Array {
  return message([varint(BigInt(number << 3)), varint(BigInt.asUintN(64, BigInt(value)))]);
}

function floatField(number: number, value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return message([varint(BigInt((number << 3) | 5)), bytes]);
}

function textField(number: number, text: string): Uint8Array {
  return bytesField(
    number,
    Uint8Array.from(text, (character) => character.charCodeAt(0)),
  );
}

function bytesField(number: number, bytes: Uint8Array): Uint8Array {
  return message([varint(BigInt((number << 3) | 2)), varint(BigInt(bytes.length)), bytes]);
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
