// Earlier questions: they stay while the tab is open, reloading included, and leave with it.

const PLACE = "router-r1.exchanges";
const MOST = 50;

/** Records of earlier exchanges (see exchange.js), oldest first. */
export function earlier() {
  try {
    return JSON.parse(sessionStorage.getItem(PLACE)) ?? [];
  } catch {
    return []; // no storage here, or another program's data
  }
}

/** Keeps the newest records, as many as there is room for. */
export function keep(records) {
  for (let kept = records.slice(-MOST); kept.length; kept = kept.slice(Math.ceil(kept.length / 2))) {
    try {
      sessionStorage.setItem(PLACE, JSON.stringify(kept));
      return;
    } catch {
      continue; // too large: without the older half
    }
  }
}

export function forget() {
  try {
    sessionStorage.removeItem(PLACE);
  } catch {
    return; // no storage here: nothing is kept
  }
}
