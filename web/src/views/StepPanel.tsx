/** One step of a run: figures, error, tries, items and output. */
import { useState, type ReactNode } from "react";

import { get, getApprovals, post, Problem, runPath, type Attempt, type Item, type LogLine, type Run, type Step } from "../api";
import { duration, instant, json, shortId } from "../format";
import { usePolled } from "../live";
import { Badge, Bar, Loading, ProblemNote } from "../parts";
import { setQuery, to } from "../router";

interface Props { run: Run; step: Step; onClose: () => void; onRerun?: () => void }

export function StepPanel({ run, step, onClose, onRerun }: Props): ReactNode {
  const path = runPath(run.run_id, `/steps/${encodeURIComponent(step.id)}`);
  const version = `${step.status}/${step.attempts}/${step.items?.failure ?? 0}`;
  const detail = usePolled(() => get<Step>(path), `${path}/${version}`);
  const attempts = usePolled(
    () => get<{ attempts: Attempt[] }>(runPath(run.run_id, `/attempts?step=${encodeURIComponent(step.id)}&limit=100`)),
    `${path}/attempts/${version}`,
  );
  return (
    <aside className="panel" aria-label={`Step ${step.id}`}>
      <header>
        <h2>{step.id}</h2>
        <button type="button" className="quiet" aria-label="Close the step" onClick={onClose}>
          ✕
        </button>
      </header>
      <p>
        <Badge status={step.status} />
        {step.reason && <span className="dim"> {step.reason.replaceAll("_", " ")}</span>}
      </p>
      <Bar percent={step.progress} status={step.status} label={`Progress of ${step.id}`} />
      <dl className="facts">
        <Fact name="queue" value={step.queue} />
        <Fact name="took" value={duration(step.seconds)} />
        <Fact name="started" value={instant(step.started_at)} />
        <Fact name="tries" value={step.attempts ? String(step.attempts) : ""} />
        <Fact name="crashes" value={step.crashes ? String(step.crashes) : ""} />
        <Fact name="next try" value={step.status === "RETRY" ? instant(step.not_before) : ""} />
      </dl>
      {step.sub_run && (
        <p>
          Its run: <a href={to("runs", step.sub_run)}>{shortId(step.sub_run)}</a>
        </p>
      )}
      {step.status === "WAITING" && <Question run={run} step={step} />}
      {step.error && step.status !== "SUCCESS" && (
        <div className="note problem">
          <strong>{step.error.type}</strong>
          <p>{step.error.message}</p>
          {step.error.traceback && (
            <details>
              <summary>Traceback</summary>
              <pre tabIndex={0}>{step.error.traceback}</pre>
            </details>
          )}
        </div>
      )}
      {onRerun && (
        <button type="button" onClick={onRerun}>
          Rerun from here
        </button>
      )}
      {step.items && <Items path={path} step={step} />}
      <Lines run={run} step={step} />
      <h3>Tries</h3>
      {attempts.problem && <ProblemNote problem={attempts.problem} />}
      {attempts.value?.attempts.length === 0 && <p className="dim">None has ended yet.</p>}
      <ol className="tries">
        {(attempts.value?.attempts ?? []).map((attempt) => (
          <li key={`${attempt.generation}/${attempt.number}/${attempt.item ?? ""}`}>
            <Badge status={attempt.status} />
            <span>
              {attempt.item === null ? `try ${attempt.number}` : `item ${attempt.item}, try ${attempt.number}`}
              {attempt.started_at !== null && attempt.finished_at !== null && ` · ${duration(attempt.finished_at - attempt.started_at)}`}
              <span className="dim">
                {" "}
                {instant(attempt.started_at)} via {attempt.via}
              </span>
            </span>
            {attempt.error && <p className="bad">{attempt.error.message}</p>}
          </li>
        ))}
      </ol>
      <h3>{detail.value?.given ? "Input" : "Input, as the definition has it"}</h3>
      {detail.value && <pre tabIndex={0}>{json(detail.value.given ?? detail.value.template ?? {}).slice(0, 20_000)}</pre>}
      <h3>Output</h3>
      {detail.problem && <ProblemNote problem={detail.problem} />}
      {detail.value && <pre tabIndex={0}>{json(detail.value.output ?? null).slice(0, 20_000)}</pre>}
    </aside>
  );
}

/** Yes or no for a step that waits for it. */
function Question({ run, step }: { run: Run; step: Step }): ReactNode {
  const { value, reload } = usePolled(getApprovals, `approvals/${run.run_id}/${step.id}`, 5000);
  const asked = value?.find((one) => one.run_id === run.run_id && one.step === step.id);
  const [comment, setComment] = useState("");
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  if (!asked) return null;
  const decide = async (verb: "approve" | "reject"): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      await post(runPath(run.run_id, `/steps/${encodeURIComponent(step.id)}/${verb}`), comment ? { comment } : {});
      reload();
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(0, "Error", String(error), "", []));
    }
    setBusy(false);
  };
  return (
    <section className="note" aria-label="Approval">
      <strong>{asked.prompt}</strong>
      <label>
        Comment
        <input value={comment} maxLength={2000} onChange={(event) => setComment(event.target.value)} />
      </label>
      {problem && <ProblemNote problem={problem} />}
      <div className="actions">
        <button type="button" className="danger" disabled={busy} onClick={() => void decide("reject")}>
          Reject
        </button>
        <button type="button" className="primary" disabled={busy} onClick={() => void decide("approve")}>
          Approve
        </button>
      </div>
    </section>
  );
}

/** The last lines that the step has logged. */
function Lines({ run, step }: { run: Run; step: Step }): ReactNode {
  const path = runPath(run.run_id, `/logs?step=${encodeURIComponent(step.id)}&limit=1000`);
  const { value } = usePolled(() => get<{ lines: LogLine[] }>(path), `${path}/${step.status}`, step.finished_at === null ? 2000 : 0);
  const lines = (value?.lines ?? []).slice(-20);
  if (lines.length === 0) return null;
  return (
    <section>
      <h3>
        Log <button type="button" className="quiet" onClick={() => setQuery({ tab: "Logs" })}>all lines</button>
      </h3>
      <pre tabIndex={0}>{lines.map((line) => `${instant(line.at)} ${line.message}`).join("\n")}</pre>
    </section>
  );
}

function Fact({ name, value }: { name: string; value: string }): ReactNode {
  if (!value) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Items({ path, step }: { path: string; step: Step }): ReactNode {
  const [onlyFailed, setOnlyFailed] = useState((step.items?.failure ?? 0) > 0);
  const [cursor, setCursor] = useState<string | null>(null);
  const address = `${path}/items?limit=50${onlyFailed ? "&status=FAILURE" : ""}${cursor ? `&cursor=${cursor}` : ""}`;
  const { value, problem } = usePolled(
    () => get<{ items: Item[]; next: string | null }>(address),
    `${address}/${step.items?.success ?? 0}/${step.items?.failure ?? 0}`,
  );
  return (
    <section>
      <h3>
        Items: {step.items?.success.toLocaleString()} done, {step.items?.failure.toLocaleString()} failed of{" "}
        {step.items?.total.toLocaleString()}
      </h3>
      <label>
        <input
          type="checkbox"
          checked={onlyFailed}
          onChange={(event) => {
            setOnlyFailed(event.target.checked);
            setCursor(null);
          }}
        />
        only failed
      </label>
      {problem && <ProblemNote problem={problem} />}
      {!value && !problem && <Loading what="items" />}
      <ul className="items">
        {(value?.items ?? []).map((item) => (
          <li key={item.index}>
            <Badge status={item.status} /> <span className="mono">{item.key}</span>
            {item.error && <p className="bad">{item.error.message}</p>}
          </li>
        ))}
      </ul>
      {value?.next && (
        <button type="button" onClick={() => setCursor(value.next)}>
          More
        </button>
      )}
    </section>
  );
}
