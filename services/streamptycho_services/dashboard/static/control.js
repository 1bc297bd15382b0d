// Wishes to the reconstruction. Made only for viewers that may act.

const ACTIONS = [
  ["pause", "Pause", ""], ["resume", "Resume", ""], ["stop", "Stop after this pass", "End the reconstruction? Frames are still received and written."],
  ["reset_probe", "New probe", "Begin again with a probe found in the data?"], ["reset_object", "New object", "Begin again with the present probe?"],
];
const NUMBERS = [["modes", "Probe modes", 16], ["passes", "Passes after the end", 100000]];

/** The panel; `send(action, value)` sends a command. */
export function controlPanel(send) {
  const panel = document.createElement("section");
  panel.id = "control";
  panel.setAttribute("aria-labelledby", "h-control");
  const title = Object.assign(document.createElement("h2"), { id: "h-control", textContent: "Control" });
  const said = Object.assign(document.createElement("output"), { id: "answer" });
  panel.append(title);
  for (const [action, text, question] of ACTIONS) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.dataset.action = action;
    button.onclick = () => { if (!question || window.confirm(question)) send(action, 0); };
    panel.append(button);
  }
  for (const [action, text, most] of NUMBERS) {
    const label = Object.assign(document.createElement("label"), { textContent: `${text} ` });
    const input = Object.assign(document.createElement("input"), { type: "number", min: 1, max: most, step: 1 });
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Set" });
    button.setAttribute("aria-label", `Set ${text.toLowerCase()}`);
    button.dataset.action = action;
    button.onclick = () => {
      if (input.value !== "" && input.reportValidity()) send(action, input.valueAsNumber);
    };
    label.append(input);
    panel.append(label, button);
  }
  panel.append(said);
  return panel;
}
