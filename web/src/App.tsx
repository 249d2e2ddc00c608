import { useEffect, useState, type FormEvent, type ReactNode } from "react";

import { getSession, logIn, logOut, Problem, type Session } from "./api";
import { Dialog, Empty, ProblemNote } from "./parts";
import { usePlace, to } from "./router";
import { RunView } from "./views/Run";
import { RunsView } from "./views/Runs";
import { SearchView } from "./views/Search";
import { SystemView } from "./views/System";
import { WorkflowView } from "./views/Workflow";
import { WorkflowsView } from "./views/Workflows";

const SECTIONS: [string, string][] = [
  ["runs", "Runs"],
  ["workflows", "Workflows"],
  ["search", "Search"],
  ["system", "System"],
];

export function App(): ReactNode {
  const { path } = usePlace();
  const section = path[0] ?? "runs";
  const [keyNeeded, setKeyNeeded] = useState(false);
  const [session, setSession] = useState<Session | null>(null);
  const [asked, setAsked] = useState(false);
  useEffect(() => {
    const ask = (): void => setKeyNeeded(true);
    window.addEventListener("celeriac:key-needed", ask);
    getSession()
      .then((found) => {
        setSession(found);
        setKeyNeeded(found.needs_key);
      })
      .catch(() => setSession(null)) // the views say that the server does not answer
      .finally(() => setAsked(true));
    return () => window.removeEventListener("celeriac:key-needed", ask);
  }, []);
  return (
    <>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <header className="top">
        <a className="brand" href={to("runs")}>
          <img src="/favicon.svg" alt="" width="24" height="24" />
          Celeriac
        </a>
        <nav aria-label="Sections">
          {SECTIONS.map(([name, title]) => (
            <a key={name} href={to(name)} aria-current={section === name ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
        {session?.via === "session" && (
          <button type="button" className="log-out" onClick={() => void logOut().then(() => window.location.reload())}>
            Log out{session.key ? ` ${session.key}` : ""}
          </button>
        )}
      </header>
      <main id="main" tabIndex={-1}>
        {asked && !session?.needs_key && <View section={section} argument={path[1]} />}
        {asked && session?.needs_key && (
          <Empty title="This installation asks for a key">
            <button type="button" className="primary" onClick={() => setKeyNeeded(true)}>
              Enter a key
            </button>
          </Empty>
        )}
      </main>
      {keyNeeded && <KeyDialog onClose={() => setKeyNeeded(false)} />}
    </>
  );
}

function View({ section, argument }: { section: string; argument: string | undefined }): ReactNode {
  if (section === "runs") return argument ? <RunView key={argument} id={argument} /> : <RunsView />;
  if (section === "workflows") return argument ? <WorkflowView key={argument} id={argument} /> : <WorkflowsView />;
  if (section === "search") return <SearchView />;
  if (section === "system") return <SystemView />;
  return (
    <Empty title="There is no such view">
      <a href={to("runs")}>Go to the runs</a>
    </Empty>
  );
}

/** Asks for an API key once; the server answers with a cookie that no script can read. */
function KeyDialog({ onClose }: { onClose: () => void }): ReactNode {
  const [problem, setProblem] = useState<Problem | null>(null);
  const enter = async (event: FormEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const key = String(new FormData(event.currentTarget).get("key") ?? "");
    try {
      await logIn(key);
      window.location.reload();
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(0, "Error", String(error), "", []));
    }
  };
  return (
    <Dialog title="This installation asks for a key" onClose={onClose}>
      <form onSubmit={(event) => void enter(event)}>
        <label>
          API key
          <input name="key" type="password" autoComplete="off" required autoFocus />
        </label>
        <p className="hint">
          An operator makes one with <code>celeriac keys create</code>. It is not stored in this browser.
        </p>
        {problem && <ProblemNote problem={problem} />}
        <button type="submit" className="primary">
          Enter
        </button>
      </form>
    </Dialog>
  );
}
