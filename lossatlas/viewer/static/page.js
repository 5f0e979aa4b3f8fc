// The page starts here.

import { App } from "./app.js";

const content = JSON.parse(document.getElementById("data").textContent);
window.lossatlas = new App(document.getElementById("app"), content); // for the reader's own experiments, and the tests
