import { useEffect, useRef, useState, type ReactNode } from "react";

import { get, isEnded, Problem, runPath, type LogLine, type Run, type Step } from "../api";
import { ProblemNote } from "../parts";

const MOST_LINES = 5000;

interface Props { run: Run; step: string | null; steps: Step[]; onStep: (step: string | null) => void }

/** The lines of a run, or of one of its steps, as they come. */
export function Logs({ run, step, steps, onStep }: Props): ReactNode {
  const [lines, setLines] = useState<LogLine[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  const end = useRef<HTMLDivElement>(null);
  const isOver = isEnded(run.status);
  useEffect(() => {
    let gone = false;
    let timer = 0;
    let cursor = "";
    setLines([]);
    const turn = async (): Promise<void> => {
      try {
        const query = `?limit=500${step ? `&step=${encodeURIComponent(step)}` : ""}${cursor ? `&cursor=${cursor}` : ""}`;
        const found = await get<{ lines: LogLine[]; next: string | null }>(runPath(run.run_id, `/logs${query}`));
        if (gone) return;
        setProblem(null);
        cursor = found.next ?? cursor;
        if (found.lines.length) setLines((before) => [...before, ...found.lines].slice(-MOST_LINES));
        if (found.lines.length === 500) return void turn();
      } catch (error) {
        if (!gone) setProblem(error instanceof Problem ? error : new Problem(0, "Error", String(error), "", []));
      }
      if (!gone && !isOver) timer = window.setTimeout(() => void turn(), 1500);
    };
    void turn();
    return () => {
      gone = true;
      window.clearTimeout(timer);
    };
  }, [run.run_id, step, isOver]);
  useEffect(() => {
    if (!isOver) end.current?.scrollIntoView({ block: "nearest" });
  }, [lines, isOver]);
  return (
    <>
      <div className="tools">
        <label>
          Step
          <select value={step ?? ""} onChange={(event) => onStep(event.target.value || null)}>
            <option value="">all</option>
            {steps.map((one) => (
              <option key={one.id}>{one.id}</option>
            ))}
          </select>
        </label>
      </div>
      {problem && <ProblemNote problem={problem} />}
      {lines.length === 0 && !problem && <p className="dim">{isOver ? "No step has logged anything." : "Nothing has been logged yet."}</p>}
      <div className="logs" tabIndex={0} role="log" aria-label="Log lines">
        {lines.map((line) => (
          <div key={line.id} className={`line ${line.level.toLowerCase()}`}>
            <time>{new Date(line.at * 1000).toLocaleTimeString()}</time>
            <span className="level">{line.level}</span>
            <span className="from">
              {line.step}
              {line.item ? `/${line.item}` : ""}
            </span>
            <span className="message">{line.message}</span>
          </div>
        ))}
        <div ref={end} />
      </div>
    </>
  );
}
