// A page is loaded again every few seconds, and what has changed is put in its
// place, as long as nobody is about to do something there. What takes the
// daemon long is asked for less often: it is busy with it for a twentieth of
// its time at most.
"use strict";
(() => {
  const every = 10000;
  const follow = document.getElementById("follow");
  const box = follow.querySelector("input");
  follow.hidden = false;
  box.checked = sessionStorage.getItem("follow") !== "no";
  box.addEventListener("change", () => sessionStorage.setItem("follow", box.checked ? "yes" : "no"));

  const busy = () => {
    const main = document.getElementById("main");
    const selected = getSelection();
    return document.hidden || !box.checked || main.querySelector("details[open]") !== null ||
      (main.contains(document.activeElement) && document.activeElement !== main) ||
      (selected !== null && !selected.isCollapsed);
  };

  const replace = (from, id) => {
    const now = document.getElementById(id), next = from.getElementById(id);
    if (now && next) now.replaceWith(document.adoptNode(next));
  };

  const load = async () => {
    if (busy()) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
      if (answer.status === 401) { box.checked = false; return; }
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (busy()) return;
      const tables = [...document.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
      replace(next, "main");
      replace(next, "seen");
      document.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = tables[i] || 0; });
      document.body.classList.remove("stale");
    } catch {
      document.body.classList.add("stale");
    }
  };
  const next = async () => {
    const began = performance.now();
    await load();
    setTimeout(next, Math.max(every, 20 * (performance.now() - began)));
  };
  setTimeout(next, Math.max(every, 20 * performance.getEntriesByType("navigation")[0].responseStart));
})();
