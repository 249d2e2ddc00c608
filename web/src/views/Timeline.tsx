/** When each step waited, ran and was tried again. */
import type { ReactNode } from "react";

import { get, isEnded, runPath, type Attempt, type Run, type Step } from "../api";
import { duration } from "../format";
import { usePolled } from "../live";
import { Loading, ProblemNote } from "../parts";

export function Timeline({ run, steps, onChoose }: { run: Run; steps: Step[]; onChoose: (step: string) => void }): ReactNode {
  const done = steps.reduce((sum, step) => sum + step.attempts, 0);
  const { value, problem } = usePolled(
    () => get<{ attempts: Attempt[] }>(runPath(run.run_id, "/attempts?limit=1000")),
    `${run.run_id}/${done}/${run.status}`,
  );
  const began = run.started_at;
  if (began === null) return <p className="dim">The run has not started.</p>;
  if (problem) return <ProblemNote problem={problem} />;
  if (!value) return <Loading what="the timeline" />;
  const span = Math.max(0.001, isEnded(run.status) && run.finished_at !== null ? run.finished_at - began : (run.seconds ?? 0));
  const tries = new Map<string, Attempt[]>();
  for (const attempt of value.attempts) {
    if (attempt.item === null) tries.set(attempt.step, [...(tries.get(attempt.step) ?? []), attempt]);
  }
  const at = (instant: number): number => Math.min(100, Math.max(0, ((instant - began) / span) * 100));
  const started = steps.filter((step) => step.started_at !== null).sort((a, b) => (a.started_at ?? 0) - (b.started_at ?? 0));
  return (
    <div className="timeline scroll">
      <div className="ticks" aria-hidden="true">
        {[0, 0.25, 0.5, 0.75, 1].map((part) => (
          <span key={part}>{part === 0 ? "0" : duration(span * part)}</span>
        ))}
      </div>
      {started.map((step) => {
        // A map's own try only writes its calls: what people want to see is from the first to the last of them.
        const own = step.items ? [] : (tries.get(step.id) ?? []);
        const ended = own.filter((attempt) => attempt.started_at !== null && attempt.finished_at !== null);
        const isOpen = step.status === "PROGRESS" && step.started_at !== null;
        return (
          <button key={step.id} type="button" className="lane" onClick={() => onChoose(step.id)}>
            <span className="lane-name">{step.id}</span>
            <span className="lane-bars">
              {ended.map((attempt) => (
                <span
                  key={`${attempt.generation}/${attempt.number}`}
                  className={`try ${attempt.status.toLowerCase()}`}
                  style={{ left: `${at(attempt.started_at!)}%`, width: `${Math.max(0.3, at(attempt.finished_at!) - at(attempt.started_at!))}%` }}
                />
              ))}
              {(isOpen || ended.length === 0) && (
                <span
                  className={`try ${step.status.toLowerCase()}`}
                  style={{
                    left: `${at(step.started_at!)}%`,
                    width: `${Math.max(0.3, at(step.finished_at ?? began + span) - at(step.started_at!))}%`,
                  }}
                />
              )}
            </span>
            <span className="lane-time">{duration(step.seconds)}</span>
          </button>
        );
      })}
    </div>
  );
}
