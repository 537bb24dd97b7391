/** @file See the model: write with it, and see what it attends to. */
import { render } from "preact";
import "../pages/base.css";
import { Header } from "../pages/header.tsx";

const place = document.getElementById("app");
if (place === null) throw new Error("the page has no place for the playground");
render(<Header here="playground" />, place);
