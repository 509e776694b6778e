// Search without a server: every word of the query begins a word of the passage, accents and
// capitals aside; plurals are met half way. window.courseSearch comes from search-index.js.
"use strict";

(() => {
  const words = JSON.parse(document.getElementById("course-words").textContent);
  const fold = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const [input, status, list] = ["search-query", "search-status", "search-results"]
    .map(id => document.getElementById(id));
  const SHOWN = 40, AROUND = 90;

  /** "variâncias" also finds "variância", "distribuições" also "distribuição". */
  const stem = word => word.length < 5 ? word
    : word.replace(/(coes|soes)$/, m => `${m[0]}a`).replace(/(ies|es|s)$/, "");

  const passages = window.courseSearch.map(([page, anchor, title, heading, text]) => ({
    page, anchor, title, heading, text, inTitle: fold(title), inHeading: fold(heading), inText: fold(text),
  }));

  // A word begins where no letter or digit stands before it.
  const pattern = word => new RegExp(`(?<![\\p{L}\\p{N}])${word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`, "gu");
  const count = (text, word) => (text.match(pattern(word)) ?? []).length;

  function score(passage, query) {
    let total = 0;
    for (const word of query) {
      const here = 12 * count(passage.inHeading, word) + Math.min(6, count(passage.inText, word));
      const above = count(passage.inTitle, word);
      if (!here && !above) return 0;
      total += here + (here ? 2 : 0.2) * above;
    }
    return total;
  }

  /** Positions in folded text are those of the text only letter by letter. */
  function excerpt(text, query) {
    const letters = [...text], folded = letters.map(fold), starts = [];
    let joined = "";
    for (const letter of folded) { starts.push(joined.length); joined += letter; }
    const at = place => starts.findLastIndex(start => start <= place);
    const hits = query.flatMap(word => [...joined.matchAll(pattern(word))].map(m => [at(m.index), at(m.index + word.length - 1) + 1]))
      .sort((a, b) => a[0] - b[0]);
    const middle = hits[0]?.[0] ?? 0;
    let from = Math.max(0, middle - AROUND), to = Math.min(letters.length, middle + 2 * AROUND);
    while (from > 0 && letters[from - 1] !== " ") from--;
    while (to < letters.length && letters[to] !== " ") to++;
    const line = document.createElement("p");
    line.append(from > 0 ? "… " : "");
    let done = from;
    for (const [start, end] of hits) {
      if (start < done || end > to) continue;
      const mark = document.createElement("mark");
      mark.textContent = letters.slice(start, end).join("");
      line.append(letters.slice(done, start).join(""), mark);
      done = end;
    }
    line.append(letters.slice(done, to).join(""), to < letters.length ? " …" : "");
    return line;
  }

  function search() {
    const asked = input.value.trim();
    const query = fold(asked).split(/[^\p{L}\p{N}_]+/u).filter(Boolean).map(stem);
    const found = query.length ? passages.map(passage => [score(passage, query), passage])
      .filter(([points]) => points).sort((a, b) => b[0] - a[0]) : [];
    const said = found.length > 1 ? "search-many" : found.length ? "search-one" : "search-none";
    status.textContent = query.length
      ? words[said].replace("{query}", asked).replace("{count}", found.length) : "";
    list.replaceChildren(...found.slice(0, SHOWN).map(([, { page, anchor, title, heading, text }]) => {
      const item = document.createElement("li"), link = document.createElement("a");
      link.href = `${page}#${anchor}`;
      link.textContent = heading || title;
      item.append(link);
      if (heading && heading !== title) {
        const where = document.createElement("span");
        where.className = "search-page";
        where.textContent = title;
        item.append(" ", where);
      }
      item.append(excerpt(text, query));
      return item;
    }));
  }

  input.value = new URLSearchParams(location.search).get("q") ?? "";
  input.addEventListener("input", () => {
    history.replaceState(null, "", `?q=${encodeURIComponent(input.value)}`);
    search();
  });
  input.form.addEventListener("submit", event => event.preventDefault());
  search();
  input.focus();
})();
