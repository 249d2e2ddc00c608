import type { ReactNode } from "react";

import { get, type WorkflowSummary } from "../api";
import { count } from "../format";
import { usePolled } from "../live";
import { Empty, Loading, ProblemNote } from "../parts";
import { to } from "../router";

export function WorkflowsView(): ReactNode {
  const { value, problem, reload } = usePolled(() => get<{ workflows: WorkflowSummary[] }>("/api/v1/workflows"), "workflows", 10_000);
  return (
    <>
      <div className="heading">
        <h1>Workflows</h1>
      </div>
      {problem && <ProblemNote problem={problem} onRetry={reload} />}
      {!value && !problem && <Loading what="workflows" />}
      {value?.workflows.length === 0 && (
        <Empty title="There is no definition">
          <p>
            Put YAML files into <code>definitions/</code>, or name folders in <code>CELERIAC_DEFINITIONS</code>.
          </p>
        </Empty>
      )}
      <ul className="cards">
        {(value?.workflows ?? []).map((workflow) => (
          <li key={workflow.id} className="card">
            <h2>
              <a href={to("workflows", workflow.id)}>{workflow.id}</a>
            </h2>
            <p>{workflow.description || <span className="dim">No description.</span>}</p>
            <p className="dim">
              {count(workflow.steps, "step")}
              {workflow.errors > 0 && <span className="bad"> · {count(workflow.errors, "error")}</span>}
              {workflow.warnings > 0 && <span> · {count(workflow.warnings, "warning")}</span>}
            </p>
          </li>
        ))}
      </ul>
    </>
  );
}
