/** @file A graphics adapter in words. */

export function describeAdapter({ vendor, architecture, description }: GPUAdapterInfo): string {
  const words = description === "" ? `${vendor} ${architecture}`.trim() : description;
  return words === "" ? "a graphics adapter that does not say its name" : words;
}
