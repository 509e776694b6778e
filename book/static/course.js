// Small comforts. Every page reads well without them.
"use strict";

(() => {
  const words = JSON.parse(document.getElementById("course-words").textContent);
  const all = selector => [...document.querySelectorAll(selector)];

  // The other language opens at the section that is being read: both share their addresses.
  const sections = all("main section[id]");
  const reading = () => sections.findLast(section => section.getBoundingClientRect().top < innerHeight / 3);
  for (const link of all("a.language-switch")) {
    const page = link.getAttribute("href");
    const follow = () => {
      const section = scrollY > 0 ? reading() : undefined;
      link.href = section ? `${page}#${section.id}` : page;
    };
    for (const event of ["pointerdown", "focus", "click"]) link.addEventListener(event, follow);
  }

  // What is wider than the page scrolls by itself, and the keyboard must reach it.
  const scrolling = all("main pre, .table-wrapper, .math");
  const reach = () => {
    for (const box of scrolling) {
      const wide = box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible";
      if (wide) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("resize", reach);
  document.addEventListener("toggle", reach, true);
  document.fonts.ready.then(reach);
  reach();

  // A button that copies the code of a cell, on pages from a disk too.
  async function copy(text) {
    if (navigator.clipboard) {
      try { return await navigator.clipboard.writeText(text); } catch { /* the older way below */ }
    }
    const area = document.createElement("textarea");
    Object.assign(area, { value: text });
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("not copied");
  }
  for (const box of all("main .cell_input .highlight, main div[class*=highlight-]:not(.cell_input *) > .highlight")) {
    if (box.closest(".cell_output")) continue;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy" });
    button.textContent = words.copy;
    button.addEventListener("click", async () => {
      try {
        await copy(box.querySelector("pre").textContent.trimEnd());
        button.textContent = words.copied;
      } catch {
        button.textContent = words["copy-failed"];
      }
      button.focus();
      setTimeout(() => { button.textContent = words.copy; }, 2000);
    });
    box.append(button);
  }

  // A fold that holds the address in the location opens; print shows what is folded.
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const inside = target?.querySelector(":scope > details.fold");
    for (let fold = inside ?? target?.closest("details"); fold; 
      fold = fold.parentElement.closest("details")) fold.open = true;
  };
  addEventListener("hashchange", open);
  open();

  // Escape, or a link to a place on this page, closes the drawers of a narrow screen.
  const drawers = all(".sidebar-toggle");
  const close = () => { for (const drawer of drawers) drawer.checked = false; };
  addEventListener("keydown", event => { if (event.key === "Escape") close(); });
  for (const link of all(".toc-drawer a")) link.addEventListener("click", close);
  for (const drawer of drawers) drawer.addEventListener("keydown", event => {
    if (event.key === "Enter") drawer.click();
  });
})();
