// Draws every diagram in the theme that the page shows, and again when the reader changes it.
const wishes = () => document.body.dataset.theme;
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => wishes() === "dark" || (wishes() !== "light" && systemDark.matches);
const diagrams = [...document.querySelectorAll("pre.mermaid")].map((node) => ({ node, text: node.textContent }));

async function draw() {
  mermaid.initialize({
    startOnLoad: false,
    theme: isDark() ? "dark" : "neutral",
    fontFamily: "inherit",
    sequence: { mirrorActors: false },
  });
  for (const { node, text } of diagrams) {
    node.removeAttribute("data-processed");
    node.textContent = text;
  }
  await mermaid.run({ nodes: diagrams.map(({ node }) => node) });
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
