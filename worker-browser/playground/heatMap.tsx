/** @file One head's attention as a picture: rows are tokens, columns what they look at; the darker, the more. */
import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";

export type Pointed = { readonly query: number; readonly key: number };

export function HeatMap({
  attention,
  length,
  size,
  label,
  onPoint,
}: {
  readonly attention: Float32Array;
  readonly length: number;
  /** Of its side, CSS pixels. */
  readonly size: number;
  readonly label?: string;
  readonly onPoint?: (pointed: Pointed | null) => void;
}): VNode {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    const colour = getComputedStyle(context.canvas).color;
    context.clearRect(0, 0, length, length);
    context.fillStyle = colour;
    for (let query = 0; query < length; query++) {
      for (let key = 0; key <= query; key++) {
        // The square root: what is weak is not nothing, and should be seen.
        context.globalAlpha = Math.sqrt(attention[query * length + key] ?? 0);
        context.fillRect(key, query, 1, 1);
      }
    }
  });
  return (
    <canvas
      ref={canvas}
      class="heat"
      width={length}
      height={length}
      style={{ width: `${size}px`, height: `${size}px` }}
      {...(label === undefined ? { "aria-hidden": true } : { role: "img", "aria-label": label })}
      onPointerMove={(event) => {
        const { width, height } = event.currentTarget.getBoundingClientRect();
        onPoint?.({ query: cellAt(event.offsetY / height, length), key: cellAt(event.offsetX / width, length) });
      }}
      onPointerLeave={() => onPoint?.(null)}
    />
  );
}

function cellAt(part: number, length: number): number {
  return Math.max(0, Math.min(length - 1, Math.floor(part * length)));
}
