import { useMemo, useState, type ReactNode } from "react";

import { get, isEnded, post, Problem, runPath, workflowPath, type Graph, type Plan, type Run, type Taken } from "../api";
import { count, duration, instant, json } from "../format";
import { useRun, usePolled } from "../live";
import { Badge, Bar, Dialog, Loading, ProblemNote, Tabs } from "../parts";
import { setQuery, to, usePlace } from "../router";
import { GraphView } from "./Graph";
import { Logs } from "./Logs";
import { StepPanel } from "./StepPanel";
import { Cause } from "./Runs";
import { Steps } from "./Steps";
import { Timeline } from "./Timeline";

type Verb = "cancel" | "retry" | "pause" | "resume" | "rerun";

export function RunView({ id }: { id: string }): ReactNode {
  const { query } = usePlace();
  const { run, steps, problem, isLive, reload } = useRun(id);
  const tab = query.get("tab") ?? "Graph";
  const layer = query.get("layer") === "canvas" ? "canvas" : "dag";
  const chosen = query.get("step");
  const showsCritical = query.get("critical") === "1";
  const [verb, setVerb] = useState<{ verb: Verb; from?: string } | null>(null);
  const graph = usePolled(() => get<Graph>(runPath(id, `/graph?format=layout&layer=${layer}`)), `${id}/${layer}`);
  const plan = usePolled(
    () => (showsCritical && run ? get<Plan>(workflowPath(run.workflow, "/plan")) : Promise.resolve(null)),
    `plan/${run?.workflow ?? ""}/${showsCritical}`,
  );
  const choose = (step: string | null): void => setQuery({ step });
  const step = useMemo(() => steps.find((one) => one.id === chosen), [steps, chosen]);

  if (!run) return problem ? <ProblemNote problem={problem} onRetry={reload} /> : <Loading what="the run" />;
  return (
    <>
      <div className="heading">
        <div>
          <h1>
            <a href={to("workflows", run.workflow)}>{run.workflow}</a>
          </h1>
          <p className="dim mono">{run.run_id}</p>
        </div>
        <Verbs run={run} onVerb={(name) => setVerb({ verb: name })} />
      </div>
      {problem && <ProblemNote problem={problem} />}
      <Summary run={run} isLive={isLive} />
      <Tabs names={["Graph", "Steps", "Timeline", "Logs", "Data"]} chosen={tab} onChoose={(name) => setQuery({ tab: name })} />
      <div className={step && tab !== "Logs" ? "split" : ""}>
        <section className="pane">
          {tab === "Graph" && (
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
                <label>
                  <input
                    type="checkbox"
                    checked={showsCritical}
                    onChange={(event) => setQuery({ critical: event.target.checked ? "1" : null })}
                  />
                  Critical path
                </label>
                <a href={runPath(id, `/graph?format=svg&layer=${layer}`)} target="_blank" rel="noreferrer">
                  SVG
                </a>
                <a href={runPath(id, `/graph?format=png&layer=${layer}`)} target="_blank" rel="noreferrer">
                  PNG
                </a>
              </div>
              {graph.problem && <ProblemNote problem={graph.problem} onRetry={graph.reload} />}
              {graph.value ? (
                <GraphView
                  key={layer}
                  graph={graph.value}
                  steps={steps}
                  chosen={chosen}
                  critical={plan.value?.critical_path}
                  showsGates={layer === "canvas"}
                  onChoose={choose}
                />
              ) : (
                !graph.problem && <Loading what="the graph" />
              )}
            </>
          )}
          {tab === "Steps" && <Steps steps={steps} chosen={chosen} onChoose={choose} />}
          {tab === "Timeline" && <Timeline run={run} steps={steps} onChoose={choose} />}
          {tab === "Logs" && <Logs run={run} step={chosen} onStep={choose} steps={steps} />}
          {tab === "Data" && <Data run={run} />}
        </section>
        {step && tab !== "Logs" && (
          <StepPanel
            run={run}
            step={step}
            onClose={() => choose(null)}
            onRerun={isEnded(run.status) ? () => setVerb({ verb: "rerun", from: step.id }) : undefined}
          />
        )}
      </div>
      {verb && (
        <VerbDialog
          run={run}
          verb={verb.verb}
          from={verb.from}
          onClose={() => setVerb(null)}
          onDone={() => {
            setVerb(null);
            reload();
          }}
        />
      )}
    </>
  );
}

function Summary({ run, isLive }: { run: Run; isLive: boolean }): ReactNode {
  const left = isEnded(run.status) ? "" : run.eta_seconds !== null ? `about ${duration(run.eta_seconds)} left` : "";
  return (
    <section className="summary" aria-label="How the run stands">
      <div className="summary-line" role="status">
        <Badge status={run.status} />
        <span className="percent">{run.progress} %</span>
        <span>
          {run.steps_done} of {count(run.steps_total, "step")}
        </span>
        {run.steps_failed > 0 && <span className="bad">{run.steps_failed} failed</span>}
        {run.cancel_requested && !isEnded(run.status) && <span className="bad">stopping</span>}
        <span>{duration(run.seconds)}</span>
        {left && <span className="dim">{left}</span>}
        <span className="dim">{run.started_at ? `started ${instant(run.started_at)}` : `accepted ${instant(run.created_at)}`}</span>
        <span className="dim">
          by <Cause run={run} />
        </span>
        {run.generation > 1 && <span className="dim">generation {run.generation}</span>}
        {!isEnded(run.status) && <span className={isLive ? "live on" : "live"}>{isLive ? "live" : "polling"}</span>}
      </div>
      <Bar percent={run.progress} status={run.status} label="Progress of the run" />
      {run.error && <p className="bad">{run.error}</p>}
    </section>
  );
}

function Verbs({ run, onVerb }: { run: Run; onVerb: (verb: Verb) => void }): ReactNode {
  const isOver = isEnded(run.status);
  return (
    <div className="verbs">
      {run.status === "PAUSED" && (
        <button type="button" onClick={() => onVerb("resume")}>
          Resume
        </button>
      )}
      {(run.status === "PROGRESS" || run.status === "PENDING") && !run.cancel_requested && (
        <button type="button" onClick={() => onVerb("pause")}>
          Pause
        </button>
      )}
      {!isOver && (
        <button type="button" className="danger" onClick={() => onVerb("cancel")} disabled={run.cancel_requested}>
          Cancel
        </button>
      )}
      {(run.status === "FAILURE" || run.status === "REVOKED") && (
        <button type="button" className="primary" onClick={() => onVerb("retry")}>
          Retry
        </button>
      )}
      {isOver && (
        <button type="button" onClick={() => onVerb("rerun")}>
          Rerun
        </button>
      )}
    </div>
  );
}

const MEANINGS: Record<Verb, string> = {
  cancel: "What has not started never will; what runs is told to stop.",
  pause: "What runs goes on to its end; nothing new starts until the run is resumed.",
  resume: "What is ready starts.",
  retry: "What failed, and what waited for it, runs again; what is done stays.",
  rerun: "A new run that takes over what is done and still right.",
};

/** Shows what a verb would do, as the server's dry run tells it, before it is done. */
function VerbDialog({
  run,
  verb,
  from,
  onClose,
  onDone,
}: {
  run: Run;
  verb: Verb;
  from?: string;
  onClose: () => void;
  onDone: () => void;
}): ReactNode {
  const path = runPath(run.run_id, `/${verb}`);
  const body = from ? { from } : {};
  const rehearsal = usePolled(() => post<Record<string, unknown>>(`${path}?dry_run=true`, body), `${path}/${from ?? ""}`);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const act = async (): Promise<void> => {
    setBusy(true);
    try {
      const answer = await post<{ run_id?: string }>(path, body);
      onDone();
      if (answer.run_id && answer.run_id !== run.run_id) window.location.hash = to("runs", answer.run_id);
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(0, "Error", String(error), "", []));
      setBusy(false);
    }
  };
  return (
    <Dialog title={`${verb[0]!.toUpperCase()}${verb.slice(1)} this run${from ? ` from ${from}` : ""}?`} onClose={onClose}>
      <p>{MEANINGS[verb]}</p>
      {!rehearsal.value && !rehearsal.problem && <Loading what="what would happen" />}
      {rehearsal.problem && <ProblemNote problem={rehearsal.problem} />}
      {rehearsal.value && <Rehearsed answer={rehearsal.value} />}
      {problem && <ProblemNote problem={problem} />}
      <div className="actions">
        <button type="button" onClick={onClose}>
          Leave it
        </button>
        <button
          type="button"
          className={verb === "cancel" ? "danger" : "primary"}
          disabled={busy || !rehearsal.value}
          onClick={() => void act()}
        >
          {`${verb[0]!.toUpperCase()}${verb.slice(1)}`}
        </button>
      </div>
    </Dialog>
  );
}

function Rehearsed({ answer }: { answer: Record<string, unknown> }): ReactNode {
  if (Array.isArray(answer.steps) && answer.of) return <Verdicts taken={answer.steps as Taken[]} />;
  const shown = Object.entries(answer).filter(([name]) => !["run_id", "dry_run", "status"].includes(name));
  return (
    <dl className="facts">
      {shown.map(([name, value]) => (
        <div key={name}>
          <dt>{name.replaceAll("_", " ")}</dt>
          <dd>{Array.isArray(value) ? list(value) : typeof value === "object" ? json(value) : String(value)}</dd>
        </div>
      ))}
    </dl>
  );
}

/** What a rerun takes over and what it does again, with the reasons. */
function Verdicts({ taken }: { taken: Taken[] }): ReactNode {
  const reused = taken.filter((one) => one.is_reused).length;
  return (
    <>
      <p>
        {count(reused, "step")} taken over, {taken.length - reused} to run.
      </p>
      <div className="scroll verdicts" tabIndex={0} role="region" aria-label="What becomes of the steps">
        <table>
          <thead>
            <tr>
              <th scope="col">Step</th>
              <th scope="col">Becomes</th>
              <th scope="col">Because</th>
            </tr>
          </thead>
          <tbody>
            {taken.slice(0, 200).map((one) => (
              <tr key={one.step}>
                <td>{one.step}</td>
                <td>{one.is_reused ? "taken over" : <strong>runs again</strong>}</td>
                <td className="dim">{one.why}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {taken.length > 200 && <p className="dim">and {taken.length - 200} more</p>}
    </>
  );
}

function list(values: unknown[]): string {
  const texts = values.slice(0, 12).map((value) => (typeof value === "string" ? value : json(value)));
  return values.length > 12 ? `${texts.join(", ")} and ${values.length - 12} more` : texts.join(", ") || "none";
}

function Data({ run }: { run: Run }): ReactNode {
  return (
    <>
      <h2>Params</h2>
      <pre tabIndex={0}>{json(run.params)}</pre>
      <h2>Outputs</h2>
      <pre tabIndex={0}>{json(run.outputs ?? null)}</pre>
      <h2>Delivered by</h2>
      <pre tabIndex={0}>{json(run.dispatches ?? {})}</pre>
    </>
  );
}
