/** @file What we use of WebAssembly's API, which Node has and neither `@types/node` nor TypeScript's `es2024` declares. */

declare namespace WebAssembly {
  class Memory {
    constructor(pages: { initial: number; maximum: number; shared: true });
    readonly buffer: ArrayBufferLike;
  }
  // oxlint-disable-next-line typescript/no-extraneous-class -- opaque, as in the API
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
  }
  class Instance {
    constructor(module: Module, imports: Readonly<Record<string, Readonly<Record<string, Memory>>>>);
    readonly exports: Readonly<Record<string, unknown>>;
  }
}
