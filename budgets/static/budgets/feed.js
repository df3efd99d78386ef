// The live feed: decisions as the server sends them, the newest on top, as many as the page began with and a few more.
(() => {
  "use strict";
  const MOST = 30;
  const begin = () => {
    const list = document.querySelector("[data-feed]");
    if (!list || !window.EventSource) return;
    const state = document.querySelector("[data-feed-state]");
    const say = (text) => { if (state) state.textContent = text; };
    const source = new EventSource(list.dataset.feed);
    source.addEventListener("open", () => say("Live"));
    source.addEventListener("error", () => say("Connecting again …"));
    source.addEventListener("decision", (event) => {
      const made = document.createElement("template");
      made.innerHTML = event.data;
      list.prepend(made.content);
      document.querySelector("[data-feed-empty]")?.remove();
      while (list.children.length > MOST) list.lastElementChild.remove();
    });
    // A hidden page asks for nothing; the browser says where it was when it comes back.
    addEventListener("pagehide", () => source.close());
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
