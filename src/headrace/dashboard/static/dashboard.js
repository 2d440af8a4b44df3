// Everything works without this: it writes live figures into the page, and adds keys.
"use strict";

(() => {
  const pulse = document.getElementById("pulse");
  const every = (selector) => Array.from(document.querySelectorAll(selector));

  // Live figures ------------------------------------------------------------------------------------------------------

  function put(element, [text, state]) {
    if (element.textContent !== text) element.textContent = text;
    if (element.dataset.is !== state) element.dataset.is = state;
  }

  function show(found) {
    for (const element of every("[data-tile]")) {
      const figure = found.tiles[element.dataset.tile];
      if (!figure) continue;
      element.textContent = figure[0];
      element.closest(".tile").dataset.is = figure[1];
    }
    for (const element of every("[data-cell]")) {
      put(element, found.cells[element.dataset.cell] || ["", ""]);
    }
    for (const element of every("text.figure")) {
      const [text, state] = found.edges[element.dataset.edge] || ["", ""];
      element.textContent = text;
      element.classList.toggle("bad", state === "failing");
      element.classList.toggle("late", state === "late");
      const arrow = element.previousElementSibling;
      const label = arrow && arrow.dataset.edge === element.dataset.edge && arrow.querySelector(".label");
      // A long figure needs the place of the words.
      if (label) label.classList.toggle("away", text.length > 9);
    }
    const problem = document.getElementById("problem");
    problem.hidden = !found.problem;
    if (problem.textContent !== found.problem) problem.textContent = found.problem;
    document.getElementById("changed").hidden = found.drawing === pulse.dataset.drawing;
  }

  function tell(state, text) {
    pulse.dataset.is = state;
    if (pulse.textContent !== text) pulse.textContent = text;
  }

  let source = null;
  let again = 0;

  function follow() {
    window.clearTimeout(again);
    if (source) source.close();
    source = new EventSource(pulse.dataset.live);
    source.onmessage = (event) => {
      const found = JSON.parse(event.data);
      show(found);
      tell(found.problem ? "lost" : "live", found.problem ? "cannot be read" : "live");
    };
    source.onerror = () => {
      tell("lost", "not live: connecting again");
      // The browser tries again by itself, unless it was refused.
      if (source.readyState === EventSource.CLOSED) again = window.setTimeout(follow, 15000);
    };
  }

  // A page that nobody sees holds no connection.
  function followWhileSeen() {
    if (!document.hidden) follow();
    else if (source) source.close();
  }

  if (pulse && pulse.dataset.live) {
    show(JSON.parse(document.getElementById("figures").textContent));
    followWhileSeen();
    document.addEventListener("visibilitychange", followWhileSeen);
  }

  // The size of the drawing --------------------------------------------------------------------------------------------

  const size = document.getElementById("size");
  const drawing = document.querySelector(".drawing");
  const picture = drawing && drawing.querySelector("svg");

  function offerSize() {
    const full = drawing.classList.contains("full");
    size.hidden = !full && picture.width.baseVal.value <= drawing.clientWidth;
  }

  if (size && picture) {
    size.addEventListener("click", () => {
      const full = drawing.classList.toggle("full");
      size.setAttribute("aria-pressed", String(full));
      size.textContent = full ? "Fit the page" : "Full size";
    });
    window.addEventListener("resize", offerSize);
    offerSize();
  }

  // Marks on a list ----------------------------------------------------------------------------------------------------

  const all = document.querySelector("[data-all]");
  const marks = every('input[name="position"][type="checkbox"]');
  const needMarks = every('.actions button[name="do"]');

  function marked() {
    const count = marks.filter((mark) => mark.checked).length;
    if (all) {
      all.checked = count > 0 && count === marks.length;
      all.indeterminate = count > 0 && count < marks.length;
    }
    for (const button of needMarks) button.disabled = count === 0;
  }

  if (all) {
    all.addEventListener("change", () => {
      for (const mark of marks) mark.checked = all.checked;
      marked();
    });
    for (const mark of marks) mark.addEventListener("change", marked);
    window.addEventListener("pageshow", marked);
    marked();
  }

  // Keys -----------------------------------------------------------------------------------------------------------------

  const rows = every("[data-row]");

  function step(by) {
    if (!rows.length) return;
    const here = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[Math.min(Math.max(here + by, 0), rows.length - 1)];
    const target = next.querySelector("a");
    if (target) target.focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof HTMLElement && event.target.closest("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("of").focus();
    } else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "x") {
      const row = rows.find((one) => one.contains(document.activeElement));
      const mark = row && row.querySelector('input[type="checkbox"]');
      if (mark) mark.click();
    }
  });

  // A form is sent once, however often its button is pressed.
  for (const form of every('form[method="post"]')) {
    form.addEventListener("submit", () => {
      window.setTimeout(() => {
        for (const button of form.querySelectorAll("button")) button.disabled = true;
      }, 0);
    });
    window.addEventListener("pageshow", () => {
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    });
  }
})();
