/** What changes by itself: polled values, and a run that is pushed by server-sent events. */
import { useCallback, useEffect, useRef, useState } from "react";

import { get, isEnded, Problem, runPath, type Run, type Step } from "./api";

export interface Polled<T> { value: T | null; problem: Problem | null; reload: () => void }

/** Loads at once and then every `everyMs` while the page is visible; a value that was loaded stays through an outage. */
export function usePolled<T>(load: () => Promise<T>, key: string, everyMs = 0): Polled<T> {
  const [state, setState] = useState<{ key: string; value: T | null; problem: Problem | null }>({ key, value: null, problem: null });
  const [again, setAgain] = useState(0);
  const loader = useRef(load);
  loader.current = load;
  useEffect(() => {
    let gone = false;
    let timer = 0;
    const turn = async (): Promise<void> => {
      let failed = false;
      if (!document.hidden) {
        try {
          const value = await loader.current();
          if (!gone) setState({ key, value, problem: null });
        } catch (error) {
          failed = true;
          const problem = error instanceof Problem ? error : new Problem(0, "Error", String(error), "", []);
          if (!gone) setState((before) => ({ key, value: before.key === key ? before.value : null, problem }));
        }
      }
      if (!gone && (everyMs || failed)) timer = window.setTimeout(() => void turn(), everyMs || 3000);
    };
    void turn();
    return () => {
      gone = true;
      window.clearTimeout(timer);
    };
  }, [key, everyMs, again]);
  const reload = useCallback(() => setAgain((number) => number + 1), []);
  const isCurrent = state.key === key;
  return { value: isCurrent ? state.value : null, problem: isCurrent ? state.problem : null, reload };
}

export interface LiveRun { run: Run | null; steps: Step[]; problem: Problem | null; isLive: boolean; reload: () => void }

const SETTLE_MS = 300;
const POLL_MS = 2000;

/**
 * A run with its steps. Events say that something has changed, and the figures are then read once, at most about three
 * times a second; without events (a proxy that holds them back, a server that is away) they are read every two seconds.
 */
export function useRun(id: string): LiveRun {
  const [run, setRun] = useState<Run | null>(null);
  const [steps, setSteps] = useState<Step[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isLive, setLive] = useState(false);
  const [again, setAgain] = useState(0);

  useEffect(() => {
    let gone = false;
    let reading = false;
    let wanted = false;
    let timer = 0;
    let dueAt = 0;
    let events: EventSource | null = null;

    const read = async (): Promise<void> => {
      if (reading) {
        wanted = true;
        return;
      }
      reading = true;
      try {
        const [newRun, found] = await Promise.all([
          get<Run>(runPath(id)),
          get<{ steps: Step[] }>(runPath(id, "/steps")),
        ]);
        if (gone) return;
        setRun(newRun);
        setSteps(found.steps);
        setProblem(null);
        if (isEnded(newRun.status)) {
          events?.close();
          setLive(false);
          return;
        }
      } catch (error) {
        if (gone) return;
        setProblem(error instanceof Problem ? error : new Problem(0, "Error", String(error), "", []));
        if (error instanceof Problem && error.status === 404) return;
      } finally {
        reading = false;
      }
      plan(wanted ? SETTLE_MS : POLL_MS);
      wanted = false;
    };
    // A read that is soon due is not put off by what happens until then, or a busy run would never be read.
    const plan = (milliseconds: number): void => {
      const due = performance.now() + milliseconds;
      if (gone || (timer && dueAt <= due)) return;
      window.clearTimeout(timer);
      dueAt = due;
      timer = window.setTimeout(() => {
        timer = 0;
        void read();
      }, milliseconds);
    };
    const touched = (): void => {
      setLive(true);
      if (reading) wanted = true;
      else plan(SETTLE_MS);
    };

    void read();
    events = new EventSource(runPath(id, "/events"));
    for (const name of ["step", "run", "progress", "end"]) events.addEventListener(name, touched);
    events.addEventListener("error", () => setLive(false));
    return () => {
      gone = true;
      window.clearTimeout(timer);
      events?.close();
    };
  }, [id, again]);

  const reload = useCallback(() => setAgain((number) => number + 1), []);
  return { run, steps, problem, isLive, reload };
}
