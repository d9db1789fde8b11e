"use strict";
// Shows times in the reader's zone with UTC on hover, and adds copy buttons to digests, tokens and commands.
function enhance(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(time.dateTime), two = (number) => String(number).padStart(2, "0");
    time.title = time.textContent;
    time.textContent = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
  }
  for (const code of root.querySelectorAll("main code:not([data-copy])")) {
    if (!/^(sha256:|auditsvc[ _]|whsec_)/.test(code.textContent)) continue;
    const button = document.createElement("button");
    code.dataset.copy = "";
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${code.textContent.slice(0, 20)}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    });
    code.after(" ", button);
  }
}
enhance(document);
document.addEventListener("htmx:load", (event) => enhance(event.detail.elt.parentElement ?? document));
