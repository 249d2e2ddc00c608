import { useState, type FormEvent, type ReactNode } from "react";

import { get, type Hit } from "../api";
import { shortId } from "../format";
import { usePolled } from "../live";
import { Empty, Loading, ProblemNote } from "../parts";
import { setQuery, to, usePlace } from "../router";

export function SearchView(): ReactNode {
  const { query } = usePlace();
  const asked = query.get("q") ?? "";
  const collection = query.get("collection") ?? "";
  const [text, setText] = useState(asked);
  const address = `/api/v1/search?q=${encodeURIComponent(asked)}&limit=20${collection ? `&collection=${encodeURIComponent(collection)}` : ""}`;
  const { value, problem } = usePolled(() => (asked ? get<{ hits: Hit[] }>(address) : Promise.resolve({ hits: [] })), address);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setQuery({ q: text.trim() || null });
  };
  return (
    <>
      <div className="heading">
        <h1>Search</h1>
      </div>
      <form className="search" role="search" onSubmit={submit}>
        <label htmlFor="query">What are you looking for?</label>
        <div className="search-line">
          <input id="query" type="search" value={text} onChange={(event) => setText(event.target.value)} autoFocus />
          <button type="submit" className="primary">
            Search
          </button>
        </div>
      </form>
      {problem?.status === 404 ? (
        <Empty title="No papers are stored yet">
          <a className="button primary" href={to("workflows")}>
            Run a literature review
          </a>
        </Empty>
      ) : (
        problem && <ProblemNote problem={problem} />
      )}
      {asked && !value && !problem && <Loading what="papers" />}
      {asked && value?.hits.length === 0 && <Empty title="Nothing fits" />}
      <ol className="hits">
        {(value?.hits ?? []).map((hit) => (
          <li key={hit.paper_id}>
            <h2>{safeLink(hit.source) ? <a href={hit.source} rel="noreferrer noopener" target="_blank">{hit.title}</a> : hit.title}</h2>
            <p className="dim">
              {hit.section}
              {hit.page !== null && `, page ${hit.page}`} · <span className="mono">{hit.paper_id}</span>
              {hit.run_id && (
                <>
                  {" · "}
                  <a href={to("runs", hit.run_id)}>stored by run {shortId(hit.run_id)}</a>
                </>
              )}
            </p>
            <p>{marked(hit.snippet, hit.highlights)}</p>
          </li>
        ))}
      </ol>
    </>
  );
}

/** Only links to the web: what a paper calls its source may be anything. */
function safeLink(source: string): boolean {
  return /^https?:\/\//i.test(source);
}

/** The snippet with the words of the query marked; places count code points, as Python does. */
function marked(snippet: string, highlights: [number, number][]) {
  const letters = [...snippet];
  const parts = [];
  let end = 0;
  for (const [start, stop] of highlights) {
    parts.push(letters.slice(end, start).join(""), <mark key={start}>{letters.slice(start, stop).join("")}</mark>);
    end = stop;
  }
  parts.push(letters.slice(end).join(""));
  return parts;
}
