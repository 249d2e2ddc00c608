/** 42 ms, 1.4 s, 1 min 15 s, 2 h 3 min: the words of the pictures. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function instant(seconds: number | null): string {
  if (seconds === null) return "";
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today
    ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" })
    : date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

export const count = (number: number, noun: string): string =>
  `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;

export const shortId = (id: string): string => id.slice(0, 8);

export const json = (value: unknown): string => JSON.stringify(value, null, 2);
