import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./App";
import "@xyflow/react/dist/style.css";
import "./style.css";

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
