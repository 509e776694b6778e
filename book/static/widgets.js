// Brings anywidgets to life on a page: no kernel, no server, no network.
// A place <div class="course-widget" data-state="state-X.js" data-model="ID"> names the file
// that holds its state (a classic script, since pages on a disk may not fetch) and its model.
"use strict";

const courseWidgets = (() => {
  const models = {}, files = {}, here = document.currentScript.src.replace(/[^/]*$/, "");

  /** Called by a state file: { ID: { module: { _esm, _css }, plain, bytes } }. */
  const add = state => Object.assign(models, state);

  const load = file => files[file] ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    Object.assign(script, { src: here + file, onload: done, onerror: failed });
    document.head.append(script);
  });

  async function unpack(text) {
    const packed = new Blob([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))]);
    const stream = packed.stream().pipeThrough(new DecompressionStream("deflate"));
    return new DataView(await new Response(stream).arrayBuffer());
  }

  /** The model that an anywidget expects, deaf to a kernel that is not there. */
  async function modelOf({ plain, bytes }) {
    const ears = new Map(), state = structuredClone(plain);
    for (const [name, text] of Object.entries(bytes)) state[name] = await unpack(text);
    return {
      get: name => state[name],
      set(name, value) {
        state[name] = value;
        for (const hear of ears.get(`change:${name}`) ?? []) hear();
      },
      save_changes() {},
      send() {},
      on(event, hear) { ears.set(event, [...(ears.get(event) ?? []), hear]); },
      off(event, hear) { ears.set(event, (ears.get(event) ?? []).filter(e => hear && e !== hear)); },
    };
  }

  async function revive(place) {
    await load(place.dataset.state);
    const { module: { _esm, _css }, ...stored } = models[place.dataset.model];
    const address = URL.createObjectURL(new Blob([_esm], { type: "text/javascript" }));
    const { default: found } = await import(address);
    const widget = typeof found === "function" ? await found() : found;
    const model = await modelOf(stored);
    await widget.initialize?.({ model });
    if (_css) document.head.append(Object.assign(document.createElement("style"), { textContent: _css }));
    await widget.render({ model, el: place });
    // The still picture and its sentence were there for the case that this fails.
    for (const still of place.closest(".cell_output").children)
      if (!still.contains(place)) still.hidden = true;
    place.dataset.alive = "true";
    place.model = model;
  }

  const near = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      revive(target).catch(error => console.error(error));
    }
  }, { rootMargin: "1200px" });
  for (const place of document.querySelectorAll(".course-widget")) near.observe(place);
  return { add, stored: identity => models[identity] };
})();
