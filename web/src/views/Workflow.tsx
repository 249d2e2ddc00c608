import { useState, type ReactNode } from "react";

import { get, workflowPath, type Diagnostic, type Graph, type Plan, type Run, type WorkflowDetail } from "../api";
import { duration, instant } from "../format";
import { usePolled } from "../live";
import { Badge, Empty, Loading, ProblemNote, Tabs } from "../parts";
import { setQuery, to, usePlace } from "../router";
import { GraphView } from "./Graph";
import { Schedules } from "./Schedules";
import { Trigger } from "./Trigger";
import { Versions } from "./Versions";

export function WorkflowView({ id }: { id: string }): ReactNode {
  const { query } = usePlace();
  const tab = query.get("tab") ?? "Graph";
  const [starts, setStarts] = useState(false);
  const { value, problem, reload } = usePolled(() => get<WorkflowDetail>(workflowPath(id)), id);
  if (problem) return <ProblemNote problem={problem} onRetry={reload} />;
  if (!value) return <Loading what="the workflow" />;
  return (
    <>
      <div className="heading">
        <div>
          <h1>{value.id}</h1>
          <p>{value.description}</p>
        </div>
        <button type="button" className="primary" disabled={value.errors > 0} onClick={() => setStarts(true)}>
          Start a run
        </button>
      </div>
      <Tabs names={["Graph", "Plan", "Source", "Versions", "Schedule", "Runs"]} chosen={tab} onChoose={(name) => setQuery({ tab: name })} />
      <section className="pane">
        {tab === "Graph" && <Drawn workflow={value} />}
        {tab === "Plan" && <Planned id={id} />}
        {tab === "Source" && <Source workflow={value} />}
        {tab === "Versions" && <Versions id={id} />}
        {tab === "Schedule" && <Schedules workflow={id} />}
        {tab === "Runs" && <History id={id} />}
      </section>
      {starts && <Trigger workflow={value} onClose={() => setStarts(false)} />}
    </>
  );
}

function Drawn({ workflow }: { workflow: WorkflowDetail }): ReactNode {
  const { query } = usePlace();
  const layer = query.get("layer") === "canvas" ? "canvas" : "dag";
  const graph = usePolled(
    () => get<Graph>(workflowPath(workflow.id, `/graph?format=layout&layer=${layer}`)),
    `${workflow.fingerprint}/${layer}`,
  );
  if (workflow.errors > 0) return <Empty title="A definition with errors has no graph">See Source for what is wrong.</Empty>;
  return (
    <>
      <div className="tools">
        <label>
          <input
            type="checkbox"
            checked={layer === "canvas"}
            onChange={(event) => setQuery({ layer: event.target.checked ? "canvas" : null })}
          />
          Celery canvas
        </label>
      </div>
      {graph.problem && <ProblemNote problem={graph.problem} onRetry={graph.reload} />}
      {graph.value && <GraphView key={layer} graph={graph.value} showsGates={layer === "canvas"} />}
    </>
  );
}

export function Planned({ id }: { id: string }): ReactNode {
  const { value, problem } = usePolled(() => get<Plan>(workflowPath(id, "/plan")), `${id}/plan`);
  if (problem) return <ProblemNote problem={problem} />;
  if (!value) return <Loading what="the plan" />;
  return (
    <>
      <dl className="facts">
        <div>
          <dt>messages</dt>
          <dd>{value.messages.count.toLocaleString()}</dd>
        </div>
        <div>
          <dt>largest</dt>
          <dd>{value.messages.largest_bytes.toLocaleString()} bytes</dd>
        </div>
        <div>
          <dt>mean</dt>
          <dd>{Math.round(value.messages.mean_bytes).toLocaleString()} bytes</dd>
        </div>
        <div>
          <dt>critical path</dt>
          <dd>{value.critical_path.join(" → ")}</dd>
        </div>
      </dl>
      <pre tabIndex={0}>{value.canvas}</pre>
    </>
  );
}

function Source({ workflow }: { workflow: WorkflowDetail }): ReactNode {
  const { value } = usePolled(
    () => get<{ diagnostics: Diagnostic[] }>(workflowPath(workflow.id, "/validate")),
    `${workflow.id}/validate`,
  );
  const byLine = new Map<number, Diagnostic[]>();
  for (const found of value?.diagnostics ?? []) byLine.set(found.line ?? 0, [...(byLine.get(found.line ?? 0) ?? []), found]);
  return (
    <>
      {(byLine.get(0) ?? []).map((found, index) => (
        <p key={index} className="bad">
          {found.detail}
        </p>
      ))}
      <div className="source" tabIndex={0} role="region" aria-label="Source">
        {workflow.source.split("\n").map((line, index) => (
          <div key={index}>
            <div className={byLine.has(index + 1) ? "source-line marked" : "source-line"}>
              <span className="line-number">{index + 1}</span>
              <code>{line || " "}</code>
            </div>
            {(byLine.get(index + 1) ?? []).map((found, number) => (
              <p key={number} className={`finding ${found.severity ?? ""}`}>
                {found.code} {found.detail}
                {found.hint ? ` (${found.hint})` : ""}
              </p>
            ))}
          </div>
        ))}
      </div>
    </>
  );
}

function History({ id }: { id: string }): ReactNode {
  const { value, problem } = usePolled(() => get<{ runs: Run[] }>(`/api/v1/runs?workflow=${encodeURIComponent(id)}&limit=30`), `${id}/runs`, 5000);
  if (problem) return <ProblemNote problem={problem} />;
  if (!value) return <Loading what="runs" />;
  if (value.runs.length === 0) return <Empty title="It has not run yet" />;
  const longest = Math.max(0.001, ...value.runs.map((run) => run.seconds ?? 0));
  return (
    <ul className="history">
      {value.runs.map((run) => (
        <li key={run.run_id}>
          <Badge status={run.status} />
          <a href={to("runs", run.run_id)}>{instant(run.started_at ?? run.created_at)}</a>
          <span className="history-bar">
            <span className={run.status.toLowerCase()} style={{ width: `${((run.seconds ?? 0) / longest) * 100}%` }} />
          </span>
          <span className="number">{duration(run.seconds)}</span>
        </li>
      ))}
    </ul>
  );
}
