/** @file How every page begins: in the visitor's language, with the style that all share, in its place. */
import { effect } from "@preact/signals";
import { render, type VNode } from "preact";
import "./base.css";
import { language, recallLanguage } from "./language.ts";

export function showPage(page: VNode): void {
  const place = document.getElementById("page");
  if (place === null) throw new Error("the document has no place for the page");
  recallLanguage();
  effect(() => {
    document.documentElement.lang = language.value;
  });
  // A task of its own: reading the modules, drawing and laying out in one would hold up a touch for long on a slow phone.
  setTimeout(() => render(page, place));
}
