"use strict";
(() => {
  // Options are read from the page: `details[data-key]` says what there is to say of each, rows and points have its key.
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const first = (query, root = document) => root.querySelector(query);
  const make = (tag, text = "", attributes = {}) => {
    const node = document.createElement(tag);
    node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const tip = first("#tip"), dialog = first("#plan"), status = first("#status");
  const options = new Map(all("details[data-key]").map(node => {
    const facts = Object.fromEntries(all("dd", node).map(fact => [fact.dataset.fact, fact.textContent.trim()]));
    const title = first("summary", node).textContent.trim();
    return [node.dataset.key, { node, facts, title, shown: true, parts: [] }];
  }));
  const rows = all("tr[data-key]").filter(row => options.has(row.dataset.key));
  if (options.size) document.documentElement.classList.add("live");
  let current = "";

  const light = key => {
    for (const node of all(".hot")) node.classList.remove("hot");
    const option = options.get(key);
    if (option) option.parts.forEach(part => part.classList.add("hot"));
  };

  const hover = (key, box) => {
    const option = options.get(key);
    tip.hidden = !option;
    light(key);
    if (!option) return;
    const { cost, time, accelerators, cloud, region, purchase, porting } = option.facts;
    tip.replaceChildren(make("b", option.title), make("span", accelerators), make("span", `${cost} in ${time}`),
      make("span", `${cloud}, ${region}, ${purchase}${porting === "needed" ? ", needs porting" : ""}`),
      make("span", "click or Enter: plan, why, what if, export", { class: "sub" }));
    const left = Math.min(box.right + 10, innerWidth - tip.offsetWidth - 8);
    const top = box.bottom + tip.offsetHeight + 12 < innerHeight ? box.bottom + 8 : box.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };

  const open = key => {
    const option = options.get(key);
    if (!option) return;
    hover();
    current = key;
    light(key);
    first("#plan-title").textContent = option.title;
    first("#plan-text").replaceChildren(...[...option.node.children].slice(1).map(node => node.cloneNode(true)));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    first("#plan-title").focus();
  };
  const step = by => {
    const keys = all("tr[data-key]").filter(row => !row.hidden).map(row => row.dataset.key);
    const index = keys.indexOf(current) + by;
    if (keys[index]) open(keys[index]);
  };
  dialog.addEventListener("close", () => light());
  dialog.addEventListener("keydown", event => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });
  dialog.addEventListener("click", event => {
    const name = event.target === dialog ? "close" : event.target.name;
    if (name === "close") dialog.close();
    if (name === "back") step(-1);
    if (name === "on") step(1);
  });

  // Copy: the clipboard where the browser gives it, else a selection.
  for (const box of all(".copy")) box.append(make("button", "copy", { type: "button" }));
  const copy = async button => {
    const code = first("code", button.parentElement);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      if (!document.execCommand("copy")) { say("not copied: the text is selected"); return; }
    }
    button.textContent = "copied";
    say("copied");
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  };
  const say = text => { status.textContent = ""; requestAnimationFrame(() => { status.textContent = text; }); };
  document.addEventListener("click", event => {
    if (event.target.matches(".copy button")) copy(event.target);
  });

  // Rows.
  for (const row of rows) {
    const key = row.dataset.key, name = first("th bdi", row);
    options.get(key).parts.push(row);
    if (name) {
      const button = make("button", "", { type: "button", class: "open" });
      name.replaceWith(button);
      button.append(name);
    }
    row.addEventListener("click", () => { if (getSelection().isCollapsed) open(key); });
    row.addEventListener("pointerenter", () => light(key));
    row.addEventListener("pointerleave", () => light());
    row.addEventListener("keydown", event => {
      const by = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
      let other = by && row[by];
      while (other && other.hidden) other = other[by];
      if (other) { event.preventDefault(); first("button", other).focus(); }
    });
  }

  // Sorting.
  const sort = (heads, head, direction) => {
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const body = first("tbody", head.closest("table"));
    const read = row => {
      const cell = row.cells[head.cellIndex];
      return cell.dataset.value === undefined ? cell.textContent.trim().replace(/(\d),(?=\d{3})/g, "$1") : +cell.dataset.value;
    };
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
    // What is blank is last in both directions.
    body.append(...[...body.rows].map(row => [read(row), row]).sort(([a], [b]) =>
      a === "" || b === "" ? (a === "") - (b === "") : direction * compare(a, b)).map(([, row]) => row));
    say(`sorted by ${head.textContent.trim()}, ${head.getAttribute("aria-sort")}`);
  };
  for (const table of all("table")) {
    const heads = all("th[data-sorts]", table);
    const form = table.id && first(`form[data-of="${table.id}"]`);
    for (const head of heads) {
      const button = make("button", head.textContent, { type: "button", class: "sort" });
      head.replaceChildren(button);
      button.addEventListener("click", () => sort(heads, head, head.getAttribute("aria-sort") === "ascending" ? -1 : 1));
      if (form) form.elements.sort.append(make("option", head.textContent, { value: head.cellIndex }));
    }
    if (form) form.elements.sort.addEventListener("change", event =>
      sort(heads, heads.find(head => String(head.cellIndex) === event.target.value) || heads[0], 1));
  }

  // Charts: points, their bars and labels have the key of their row behind their name.
  for (const figure of all("figure[data-of]")) {
    const svg = first("svg", figure);
    if (!svg || !options.size) continue;
    const points = [];
    for (const part of all("g[id]", svg)) {
      const [, kind, key] = part.id.match(/-(point|across|up|label|front)-(\d+)$/) || [];
      if (kind === "front") part.classList.add("front");
      else if (options.has(key)) {
        options.get(key).parts.push(part);
        part.classList.add(kind);
        if (kind === "point") points.push({ key, part });
      }
    }
    if (!points.length) continue;
    svg.setAttribute("role", "group");
    const middle = point => {
      const box = point.part.getBoundingClientRect();
      return { box, x: box.left + box.width / 2, y: box.top + box.height / 2 };
    };
    const shown = () => points.filter(point => options.get(point.key).shown);
    const hold = held => points.forEach(point => point.part.setAttribute("tabindex", point === held ? 0 : -1));
    const show = point => hover(point.key, middle(point).box);
    for (const point of points) {
      const { title, facts } = options.get(point.key);
      point.part.setAttribute("role", "button");
      point.part.setAttribute("aria-label", `${title}: ${facts.cost} in ${facts.time}, ${facts.cloud} ${facts.region}`);
      point.part.addEventListener("focus", () => { hold(point); show(point); });
      point.part.addEventListener("blur", () => hover());
      point.part.addEventListener("keydown", event => {
        const axis = { ArrowLeft: ["x", -1], ArrowRight: ["x", 1], ArrowUp: ["y", -1], ArrowDown: ["y", 1] }[event.key];
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(point.key); }
        if (event.key === "Escape") hover();
        if (!axis) return;
        event.preventDefault();
        const line = shown().sort((a, b) => middle(a)[axis[0]] - middle(b)[axis[0]]);
        const next = line[line.indexOf(point) + axis[1]];
        if (next) next.part.focus();
      });
    }
    hold(points[0]);
    figure.addEventListener("filtered", () => hold(shown()[0]));
    const nearest = event => {
      const away = point => { const at = middle(point); return Math.hypot(at.x - event.clientX, at.y - event.clientY); };
      const [best] = shown().map(point => [away(point), point]).sort(([a], [b]) => a - b);
      return best && best[0] < 28 ? best[1] : undefined;
    };
    svg.addEventListener("pointermove", event => {
      const point = nearest(event);
      svg.style.cursor = point ? "pointer" : "";
      if (point) show(point); else hover();
    });
    svg.addEventListener("pointerleave", () => hover());
    svg.addEventListener("click", event => { const point = nearest(event); if (point) open(point.key); });
  }

  // Filters: a choice that would leave out nothing is not offered.
  for (const form of all("form.filters")) {
    if (options.size < 2) continue;
    const selects = all("select", form).filter(select => select.name !== "sort");
    const { demand, ready } = form.elements;
    const values = option => name => (option.facts[name] || "").split(" or ");
    const facts = [...options.values()];
    for (const select of selects) {
      const names = [...new Set(facts.flatMap(option => values(option)(select.name)))].sort();
      for (const name of names) select.append(make("option", name, { value: name }));
      select.parentElement.hidden = names.length < 2;
    }
    const isDemand = option => option.facts.purchase === "on demand", isReady = option => option.facts.porting === "none";
    demand.parentElement.hidden = facts.every(isDemand) || !facts.some(isDemand);
    ready.parentElement.hidden = facts.every(isReady) || !facts.some(isReady);
    const filter = () => {
      for (const option of facts) {
        option.shown = selects.every(select => !select.value || values(option)(select.name).includes(select.value))
          && (!demand.checked || isDemand(option)) && (!ready.checked || isReady(option));
        for (const part of option.parts) {
          if (part.matches("tr")) part.hidden = !option.shown; else part.classList.toggle("off", !option.shown);
        }
      }
      const left = facts.filter(option => option.shown).length;
      // The front is that of all options.
      for (const line of all("svg .front")) line.classList.toggle("off", left < facts.length);
      first("output", form).textContent = left < facts.length ? `${left} of ${facts.length} options shown` : "";
      for (const figure of all("figure[data-of]")) figure.dispatchEvent(new Event("filtered"));
    };
    form.addEventListener("change", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", event => event.preventDefault());
    form.hidden = false;
    filter();
  }
})();
