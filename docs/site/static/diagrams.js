// Draws every diagram in the theme that the page shows, and again when the reader changes it.
const wishes = () => document.body.dataset.theme;
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => wishes() === "dark" || (wishes() !== "light" && systemDark.matches);
const diagrams = [...document.querySelectorAll("pre.mermaid")].map((node) => ({ node, text: node.textContent }));

// Mermaid's own dark theme writes grey on grey: labels on arrows, notes and groups take the colours of the page.
function colours() {
  const page = getComputedStyle(document.body);
  const of = (name) => page.getPropertyValue(`--color-${name}`).trim();
  const [back, raised, text, line] = ["background-primary", "background-secondary", "foreground-primary", "foreground-muted"].map(of);
  return {
    edgeLabelBackground: back,
    noteBkgColor: raised, noteTextColor: text, noteBorderColor: line,
    clusterBkg: raised, clusterBorder: line, titleColor: text,
    ...(isDark() ? { textColor: text, labelTextColor: text, signalTextColor: text, actorTextColor: text } : {}),
  };
}

async function draw() {
  mermaid.initialize({
    startOnLoad: false,
    theme: isDark() ? "dark" : "neutral",
    themeVariables: colours(),
    fontFamily: getComputedStyle(document.body).fontFamily,
    flowchart: { nodeSpacing: 30, rankSpacing: 30, padding: 10, subGraphTitleMargin: { top: 4, bottom: 12 } },
    state: { nodeSpacing: 100 },
    sequence: { mirrorActors: false, width: 110, actorMargin: 30, height: 45 },
  });
  for (const { node, text } of diagrams) {
    node.removeAttribute("data-processed");
    node.textContent = text;
  }
  await mermaid.run({ nodes: diagrams.map(({ node }) => node) });
  // Mermaid makes a drawing as narrow as the page. Below this it cannot be read; then the reader scrolls it.
  for (const svg of document.querySelectorAll("pre.mermaid svg")) {
    svg.style.minWidth = `${0.55 * parseFloat(svg.style.maxWidth)}px`;
  }
}

if (diagrams.length) {
  draw();
  let drawn = isDark();
  const look = () => {
    if (isDark() !== drawn) {
      drawn = isDark();
      draw();
    }
  };
  new MutationObserver(look).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
  systemDark.addEventListener("change", look);
}
